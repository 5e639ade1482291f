//! Where settings come from: defaults < the network's preset < `nova.toml` < `.env` < `NOVA_*` < flags.
//!
//! Every value is a string until a setting reads it: a key made of digits stays the key it was.

use std::path::{Path, PathBuf};

use figment::providers::{Format, Toml};
use figment::value::{Dict, Map, Tag, Value};
use figment::{Figment, Metadata, Profile, Provider};
use secrecy::SecretString;

use super::Network;
use super::error::ConfigError;
use super::secrets::permission_problem;
use super::variables::{self, DefaultValue, VARIABLES, Variable};
use super::written::{self, Pair};

const ENVIRONMENT: &str = "the environment";

/// What `Config::load` reads.
#[derive(Clone)]
pub struct Sources {
    /// `nova.toml`: keys are the variables' names in lower case without `NOVA_`. May be absent.
    pub toml: PathBuf,
    /// `.env`. May be absent.
    pub dotenv: PathBuf,
    /// The process's environment.
    pub env: Vec<(String, String)>,
    /// Command-line flags, each as the variable it sets: `("NOVA_LOG_LEVEL", "DEBUG")`.
    pub flags: Vec<(String, String)>,
}

impl Sources {
    /// `nova.toml` and `.env` of the current folder, and this process's environment.
    pub fn standard(flags: Vec<(String, String)>) -> Self {
        let text = |value: std::ffi::OsString| value.to_string_lossy().into_owned();
        Self {
            toml: "nova.toml".into(),
            dotenv: ".env".into(),
            env: std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect(),
            flags,
        }
    }

    /// The folder of the project: where `nova.toml` lies.
    pub fn project(&self) -> &Path {
        self.toml.parent().unwrap_or(Path::new(""))
    }
}

/// All layers but the two below them (defaults and preset), and what was wrong or odd in them.
pub struct Layers {
    pub given: Figment,
    pub mistakes: Vec<ConfigError>,
    pub warnings: Vec<String>,
    /// `AWS_*` variables that S3's client does not find in the environment, or finds in quotes there.
    pub aws: Vec<(String, SecretString)>,
    /// Where S3 is, if not at Amazon's: variables and what they say.
    pub aws_endpoints: Vec<(String, String)>,
}

impl Layers {
    /// Reads `nova.toml`, `.env`, the environment and the flags.
    pub fn read(sources: &Sources) -> Self {
        let mut layers = Self {
            given: Figment::new(),
            mistakes: Vec::new(),
            warnings: Vec::new(),
            aws: Vec::new(),
            aws_endpoints: Vec::new(),
        };
        let toml = read_toml(&sources.toml, &mut layers.mistakes);
        let dotenv = read_dotenv(&sources.dotenv, &mut layers.mistakes);
        let set = toml.iter().filter(|(_, value)| !is_empty(value)).map(|(key, _)| key.as_str());
        layers.mistakes.extend(secrets_seen_by_others(&sources.toml, set));
        let set = dotenv.iter().filter(|(_, text)| !text.trim().is_empty()).map(|(name, _)| name.as_str());
        layers.mistakes.extend(secrets_seen_by_others(&sources.dotenv, set));
        let env = passed(&sources.env, &mut layers.mistakes);
        layers.aws = aws(&dotenv, &sources.env, &env);
        let everywhere = dotenv.iter().chain(&env);
        layers.aws_endpoints = everywhere.filter(|(name, _)| is_endpoint(name)).cloned().collect();
        let dotenv_name = sources.dotenv.display().to_string();
        let toml = Layer { origin: sources.toml.display().to_string(), keys: true, values: toml };
        layers.given = Figment::from(toml)
            .merge(layers.variables(&dotenv_name, &dotenv))
            .merge(layers.variables(ENVIRONMENT, &env))
            .merge(layers.variables("the command line", &sources.flags));
        layers
    }

    /// The given layers on top of the preset of `network` and the defaults.
    pub fn on(&self, network: Network) -> Figment {
        let defaults = VARIABLES.iter().filter_map(|variable| {
            let text = match variable.default {
                DefaultValue::Is(text) => text,
                DefaultValue::Preset => variables::preset(network, variable.name)?,
                DefaultValue::Computed(_) | DefaultValue::Unset(_) => return None,
            };
            Some((variable.key(), value(text)))
        });
        let defaults = Layer {
            origin: "the defaults".to_string(),
            keys: false,
            values: defaults.filter(|(_, value)| !is_empty(value)).collect(),
        };
        Figment::from(defaults).merge(self.given.clone())
    }

    /// A layer of `NOVA_*` variables. What is ours by its name and unknown is warned of.
    fn variables(&mut self, origin: &str, given: &[Pair]) -> Layer {
        let mut values = Dict::new();
        for (name, text) in given.iter().filter(|(name, _)| name.starts_with("NOVA_")) {
            if Variable::named(name).is_some() {
                // An empty variable counts as not set: that is what compose files pass for what is not there.
                if !text.trim().is_empty() {
                    values.insert(variables::key(name), value(text.trim()));
                }
            } else if !variables::FOREIGN_VARIABLES.contains(&name.as_str()) {
                let hint =
                    variables::closest(name).map(|near| format!("; did you mean {}?", near.name)).unwrap_or_default();
                self.warnings.push(format!("{name} in {origin} is no setting{hint}"));
            }
        }
        Layer { origin: origin.to_string(), keys: false, values }
    }
}

/// One source's values, by key.
struct Layer {
    origin: String,
    /// Whether the source writes keys (`gas`) rather than variables (`NOVA_GAS`).
    keys: bool,
    values: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        let (origin, keys) = (self.origin.clone(), self.keys);
        Metadata::named(self.origin.clone()).interpolater(move |_, path| {
            let key = path.join(".");
            if keys { format!("`{key}` in {origin}") } else { format!("NOVA_{} in {origin}", key.to_ascii_uppercase()) }
        })
    }

    fn data(&self) -> figment::error::Result<Map<Profile, Dict>> {
        Ok(Profile::Default.collect(self.values.clone()))
    }
}

fn value(text: &str) -> Value {
    Value::String(Tag::Default, text.to_string())
}

fn is_empty(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.trim().is_empty())
}

/// The file's text; `None` if there is no file.
fn text_of(path: &Path, mistakes: &mut Vec<ConfigError>) -> Option<String> {
    match std::fs::read_to_string(path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => {
            mistakes.push(ConfigError(format!("{}: cannot be read: {error}", path.display())));
            None
        }
    }
}

fn read_toml(path: &Path, mistakes: &mut Vec<ConfigError>) -> Dict {
    let Some(text) = text_of(path, mistakes) else {
        return Dict::new();
    };
    let table = match Toml::string(&text).data() {
        Ok(mut profiles) => profiles.remove(&Profile::Default).unwrap_or_default(),
        Err(error) => {
            let reason = without_source_lines(&error.kind.to_string());
            mistakes.push(ConfigError(format!("{}: {reason}", path.display())));
            return Dict::new();
        }
    };
    let mut values = Dict::new();
    for (key, found) in table {
        let known = VARIABLES.iter().any(|variable| variable.key() == key);
        if !known {
            let hint =
                variables::closest(&key).map(|near| format!("; did you mean `{}`?", near.key())).unwrap_or_default();
            let path = path.display();
            mistakes.push(ConfigError(format!("`{key}` in {path} is no setting{hint}")));
        } else if let Some(text) = scalar(&found) {
            values.insert(key, value(text.trim()));
        } else {
            mistakes.push(ConfigError(format!(
                "`{key}` in {}: expected one value, found a table or nested list",
                path.display()
            )));
        }
    }
    values.retain(|_, value| !is_empty(value));
    values
}

/// A TOML value as the text that a variable would hold. A list becomes a comma list.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(_, text) => Some(text.clone()),
        Value::Bool(_, truth) => Some(truth.to_string()),
        Value::Char(_, char) => Some(char.to_string()),
        Value::Num(..) => value
            .to_i128()
            .map(|number| number.to_string())
            .or_else(|| value.to_u128().map(|number| number.to_string()))
            .or_else(|| value.to_f64().map(|number| number.to_string())),
        Value::Array(_, items) => {
            let items: Option<Vec<_>> = items
                .iter()
                .map(|item| match item {
                    Value::Array(..) => None,
                    item => scalar(item),
                })
                .collect();
            Some(items?.join(","))
        }
        Value::Empty(..) | Value::Dict(..) => None,
    }
}

/// A TOML error without the lines of the file it quotes: one of them may hold a key.
fn without_source_lines(message: &str) -> String {
    let told: Vec<_> =
        message.lines().filter(|line| !line.contains('|') && !line.trim().is_empty()).map(str::trim).collect();
    told.join(": ")
}

fn read_dotenv(path: &Path, mistakes: &mut Vec<ConfigError>) -> Vec<Pair> {
    let text = text_of(path, mistakes).unwrap_or_default();
    written::read(&path.display().to_string(), &text, mistakes)
}

/// What of the environment is ours, as it is meant.
fn passed(env: &[Pair], mistakes: &mut Vec<ConfigError>) -> Vec<Pair> {
    let is_set = |name: &str| Variable::named(name).is_some() || name.starts_with("AWS_");
    let mut meant = Vec::with_capacity(env.len());
    for (name, text) in env {
        match if is_set(name) { written::passed(text) } else { Ok(text.clone()) } {
            Ok(value) => meant.push((name.clone(), value)),
            Err(why) => mistakes.push(ConfigError(format!("{name} in {ENVIRONMENT}: {why}"))),
        }
    }
    meant
}

/// A file that holds a secret and that others may read. Without secrets it may be read by anybody.
fn secrets_seen_by_others<'a>(path: &Path, set: impl Iterator<Item = &'a str>) -> Option<ConfigError> {
    let is_secret = |name: &&str| {
        AWS_SECRET_VARIABLES.contains(name)
            || VARIABLES.iter().any(|variable| variable.secret && (variable.name == *name || variable.key() == *name))
    };
    let secrets: Vec<_> = set.filter(is_secret).collect();
    if secrets.is_empty() {
        return None;
    }
    permission_problem(path)
        .map(|wrong| ConfigError(format!("{} holds {}: {wrong}", path.display(), secrets.join(", "))))
}

/// Where S3 and its tokens are. The metadata of a machine in Amazon's cloud are on that machine.
fn is_endpoint(name: &str) -> bool {
    name.starts_with("AWS_") && name.contains("ENDPOINT") && !name.contains("METADATA")
}

/// What of `AWS_*` is secret.
pub const AWS_SECRET_VARIABLES: [&str; 2] = ["AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];

/// What S3's client does not find in the environment by itself: variables of `.env`, and those that are there in quotes.
fn aws(dotenv: &[Pair], found: &[Pair], meant: &[Pair]) -> Vec<(String, SecretString)> {
    let of_file = dotenv.iter().filter(|(name, _)| found.iter().all(|(other, _)| other != name));
    let of_env = meant.iter().filter(|pair| !found.contains(pair));
    let of_aws = of_file.chain(of_env).filter(|(name, _)| name.starts_with("AWS_"));
    of_aws.map(|(name, value)| (name.clone(), SecretString::from(value.as_str()))).collect()
}
