//! Reads settings out of the layers. A wrong one is written down and a stand-in returned, so that reading goes on and
//! all mistakes come out at once; whoever asks for the mistakes at the end must not use the stand-ins.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use super::error::ConfigError;
use super::variables::Variable;
use crate::address::is_address;
use figment::{Figment, Profile};

/// More seconds than any setting needs; what is above could overflow the clock's arithmetic.
const MAX_SECONDS: f64 = 10.0 * 365.0 * 86_400.0;

pub struct Reader {
    layers: Figment,
    pub mistakes: Vec<ConfigError>,
    /// Hosts other than this machine may be reached without TLS.
    pub allow_insecure: bool,
}

impl Reader {
    pub fn new(layers: Figment, mistakes: Vec<ConfigError>) -> Self {
        Self { layers, mistakes, allow_insecure: false }
    }

    /// What is set, defaults included.
    pub fn text(&self, name: &str) -> Option<String> {
        let value = self.layers.find_value(&variable(name).key()).ok()?;
        value.into_string()
    }

    /// The setting and where it comes from: `NOVA_GAS in .env`.
    pub fn origin(&self, name: &str) -> String {
        let key = variable(name).key();
        match self.layers.find_metadata(&key) {
            Some(metadata) => metadata.interpolate(&Profile::Default, &[key]),
            None => name.to_string(),
        }
    }

    /// Writes down that a setting does not hold what it should; `found` must not show a secret.
    pub fn wrong(&mut self, name: &str, found: &str) {
        let expected = variable(name).expected;
        let origin = self.origin(name);
        self.mistakes.push(ConfigError(format!("{origin}: found {found}, expected {expected}")));
    }

    /// Writes down that a setting that is needed is not there.
    pub fn missing(&mut self, name: &str, why: &str) {
        let Variable { expected, meaning, .. } = variable(name);
        let why = if why.is_empty() { String::new() } else { format!(" ({why})") };
        self.mistakes.push(ConfigError(format!("{name} is not set{why}: expected {expected}. {meaning}")));
    }

    /// Writes down two settings that cannot both be meant.
    pub fn contradiction(&mut self, what: String) {
        self.mistakes.push(ConfigError(what));
    }

    /// A setting that may be left out.
    pub fn option<T>(&mut self, name: &str, read: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let text = self.text(name)?;
        let value = read(&text);
        if value.is_none() {
            let found = if variable(name).secret { hidden(&text) } else { shown(&text) };
            self.wrong(name, &found);
        }
        value
    }

    /// A setting that is there: it has a default, or was asked for with `require`.
    fn value<T>(&mut self, name: &str, stand_in: T, read: impl FnOnce(&str) -> Option<T>) -> T {
        self.option(name, read).unwrap_or(stand_in)
    }

    /// One of several words; the first stands in for a wrong one.
    pub fn choice<T: Copy>(&mut self, name: &str, choices: &[(&str, T)]) -> T {
        self.value(name, choices[0].1, |text| {
            let choice = choices.iter().find(|(word, _)| word.eq_ignore_ascii_case(text))?;
            Some(choice.1)
        })
    }

    /// `True` and `False` as Python writes them, and their usual relatives.
    pub fn boolean(&mut self, name: &str) -> bool {
        self.value(name, false, |text| match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Some(true),
            "false" | "0" | "no" | "off" => Some(false),
            _ => None,
        })
    }

    pub fn seconds(&mut self, name: &str) -> Duration {
        self.value(name, Duration::ZERO, |text| {
            number(text, |seconds| seconds > 0.0 && seconds <= MAX_SECONDS)
                .map(Duration::from_secs_f64)
                .filter(|duration| !duration.is_zero())
        })
    }

    /// Seconds, or never where they are 0.
    pub fn seconds_or_never(&mut self, name: &str) -> Option<Duration> {
        let read =
            |text: &str| number(text, |seconds| (0.0..=MAX_SECONDS).contains(&seconds)).map(Duration::from_secs_f64);
        Some(self.value(name, Duration::ZERO, read)).filter(|duration| !duration.is_zero())
    }

    /// A whole number of at least `least`.
    pub fn whole<T>(&mut self, name: &str, least: T) -> T
    where
        T: FromStr + PartialOrd + Copy,
    {
        self.value(name, least, |text| whole(text, least))
    }

    pub fn whole_option<T>(&mut self, name: &str, least: T) -> Option<T>
    where
        T: FromStr + PartialOrd + Copy,
    {
        self.option(name, |text| whole(text, least))
    }

    /// A number of at least 0.
    pub fn number(&mut self, name: &str) -> f64 {
        self.number_option(name).unwrap_or_default()
    }

    pub fn number_option(&mut self, name: &str) -> Option<f64> {
        self.option(name, |text| number(text, |number| number >= 0.0))
    }

    /// A number above 0.
    pub fn positive_option(&mut self, name: &str) -> Option<f64> {
        self.option(name, |text| number(text, |number| number > 0.0))
    }

    pub fn path(&mut self, name: &str) -> PathBuf {
        self.text(name).unwrap_or_default().into()
    }

    /// A path below `folder`, unless it is absolute.
    pub fn path_in(&mut self, folder: &Path, name: &str) -> PathBuf {
        folder.join(self.path(name))
    }

    pub fn parsed<T: FromStr>(&mut self, name: &str, stand_in: T) -> T {
        self.value(name, stand_in, |text| text.parse().ok())
    }

    /// An http(s) URL without a slash at its end; empty if unset.
    pub fn url(&mut self, name: &str) -> String {
        self.value(name, String::new(), |text| url(text, &["http", "https"]))
    }

    /// The URL of a service: what is sent there, and what comes back, must not be read or changed on the way.
    pub fn service_url(&mut self, name: &str) -> String {
        let url = self.url(name);
        if !url.is_empty() && !self.allow_insecure && !is_safe(&url) {
            self.unsafe_url(name, &shown(&url));
        }
        url
    }

    /// Writes down that a URL is neither encrypted nor of this machine; `found` must not show a secret.
    pub fn unsafe_url(&mut self, name: &str, found: &str) {
        let origin = self.origin(name);
        self.mistakes.push(unencrypted(&origin, found));
    }

    pub fn address(&mut self, name: &str) -> Option<String> {
        self.option(name, |text| is_address(text).then(|| text.to_string()))
    }
}

/// The table's row. That it is there is the caller's word: names are literals of this crate.
pub fn variable(name: &str) -> &'static Variable {
    Variable::named(name).unwrap_or_else(|| panic!("{name} is not in the table of settings"))
}

fn shown(text: &str) -> String {
    let short: String = text.chars().take(80).collect();
    let more = if short.len() < text.len() { "…" } else { "" };
    format!("{short:?}{more}")
}

/// What may be said of a secret that is wrong.
pub fn hidden(text: &str) -> String {
    match text.chars().count() {
        0 => "nothing".to_string(),
        1 => "1 character (not shown)".to_string(),
        several => format!("{several} characters (not shown)"),
    }
}

fn whole<T: FromStr + PartialOrd>(text: &str, least: T) -> Option<T> {
    // Python reads 4_000_000 as well.
    let number: T = text.replace('_', "").parse().ok()?;
    (number >= least).then_some(number)
}

fn number(text: &str, fits: impl FnOnce(f64) -> bool) -> Option<f64> {
    let number: f64 = text.parse().ok()?;
    (number.is_finite() && fits(number)).then_some(number)
}

/// The URL without a slash at its end, if it is one of these schemes and names a host.
pub fn url(text: &str, schemes: &[&str]) -> Option<String> {
    let url = reqwest::Url::parse(text).ok()?;
    let fits = schemes.contains(&url.scheme()) && url.has_host();
    fits.then(|| text.trim_end_matches('/').to_string())
}

/// Whether nobody between us and the URL's host can read or change what is said: TLS, or a host that is this machine.
pub fn is_safe(url: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(url) else { return false };
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let here = host == "localhost" || host.ends_with(".localhost");
    matches!(url.scheme(), "https" | "wss") || here || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

pub fn unencrypted(origin: &str, found: &str) -> ConfigError {
    ConfigError(format!(
        "{origin}: found {found}, which is reached without TLS: expected https:// (wss://), or \
         NOVA_ALLOW_INSECURE_HTTP=True where nobody can listen in"
    ))
}

/// A private key as 64 hex digits in lower case, if it is one.
pub fn private_key(text: &str) -> Option<String> {
    /// The order of secp256k1: keys are 1 up to one less.
    const ORDER: &str = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";
    let digits = text.strip_prefix("0x").unwrap_or(text).to_ascii_lowercase();
    let fits =
        digits.len() == 64 && is_hex(&digits) && digits.bytes().any(|digit| digit != b'0') && digits.as_str() < ORDER;
    fits.then_some(digits)
}

/// A key that can travel in an HTTP header.
pub fn bearer(text: &str) -> Option<String> {
    let fits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then(|| text.to_string())
}

/// A key that can stand in a URL's path.
pub fn path_key(text: &str) -> Option<String> {
    let fits =
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    fits.then(|| text.to_string())
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
