//! Secrets and the files that hold them. Nobody but their owner may read such a file, and no mistake quotes one.

use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};

use super::error::ConfigError;
use super::layers::{AWS_SECRET_VARIABLES, Layers};
use super::reader::{self, Reader, hidden, variable};
use super::variables::VARIABLES;
use super::written;
use super::{Sources, WalletKey};
use crate::secure_fs;

const KEY: &str = "NOVA_CLI_WALLET_PRIVATE_KEY";
const KEYSTORE: &str = "NOVA_CLI_WALLET_KEYSTORE";
const PASSWORD: &str = "NOVA_CLI_WALLET_KEYSTORE_PASSWORD_FILE";

/// What is wrong with a file of secrets that others may read, and what to do.
pub fn permission_problem(path: &Path) -> Option<String> {
    let mode = secure_fs::group_or_other_bits(path).ok()??;
    let path = path.display();
    Some(format!("others than its owner may read {path} (its mode is {mode:04o}): run `chmod 600 {path}`"))
}

impl Sources {
    /// Every secret that is set, whatever it is for, in a variable or in the file that one names: what is looked for where none
    /// may be. What cannot be read is none.
    pub fn secrets(&self) -> Vec<SecretString> {
        let layers = Layers::read(self);
        let of_aws = layers.aws.iter().map(|(name, text)| (name.as_str(), text.expose_secret()));
        let of_aws = of_aws.chain(self.env.iter().map(|(name, text)| (name.as_str(), text.as_str())));
        let mut secrets: Vec<SecretString> = of_aws
            .filter(|(name, _)| AWS_SECRET_VARIABLES.contains(name))
            .map(|(_, text)| SecretString::from(text))
            .collect();
        let reader = Reader::new(layers.given, Vec::new());
        for variable in VARIABLES {
            let Some(text) = reader.text(variable.name) else { continue };
            if variable.secret {
                secrets.extend(text.split(',').map(|part| SecretString::from(part.trim())));
            } else if variable.name.ends_with("_FILE") {
                let file = std::fs::read_to_string(text).ok();
                // Whatever of it is the secret: a password may have quotes.
                let meant = file.as_deref().and_then(|text| written::passed(text).ok()).map(SecretString::from);
                secrets.extend(file.iter().map(|text| SecretString::from(text.trim())).chain(meant));
            }
        }
        secrets
    }
}

impl Reader {
    /// A secret, from the variable or from the file that `NAME_FILE` points to. `read` checks it and gives its usual form.
    pub fn secret(&mut self, name: &str, read: impl FnOnce(&str) -> Option<String>) -> Option<SecretString> {
        let file_name = format!("{name}_FILE");
        if self.text(&file_name).is_none() {
            return self.option(name, |text| read(text).map(SecretString::from));
        }
        if self.text(name).is_some() {
            self.only_one_of(name, &file_name);
            return None;
        }
        let (path, text) = self.secret_file(&file_name)?;
        let text = match written::passed(text.expose_secret()) {
            Ok(text) => text,
            Err(why) => {
                let origin = self.origin(&file_name);
                self.mistakes.push(ConfigError(format!("{origin}: {path:?}: {why}")));
                return None;
            }
        };
        let secret = read(&text).map(SecretString::from);
        if secret.is_none() {
            let (origin, expected, found) = (self.origin(&file_name), variable(name).expected, hidden(&text));
            self.mistakes.push(ConfigError(format!("{origin}: found {found} in {path:?}, expected {expected}")));
        }
        secret
    }

    /// The content of the file that a variable names, and where that is.
    fn secret_file(&mut self, name: &str) -> Option<(PathBuf, SecretString)> {
        let path = PathBuf::from(self.text(name)?);
        if let Some(wrong) = permission_problem(&path) {
            let origin = self.origin(name);
            self.mistakes.push(ConfigError(format!("{origin}: {wrong}")));
            return None;
        }
        match std::fs::read_to_string(&path) {
            Ok(text) => Some((path, SecretString::from(text))),
            Err(error) => {
                self.wrong(name, &format!("{path:?}, which cannot be read: {error}"));
                None
            }
        }
    }

    fn only_one_of(&mut self, one: &str, other: &str) {
        let (one, other) = (self.origin(one), self.origin(other));
        self.contradiction(format!("{one} and {other}: both are set, expected only one"));
    }

    /// The wallet's key: raw, from a file, or from a keystore; exactly one of them.
    pub fn wallet_key(&mut self, needed: bool) -> Option<WalletKey> {
        let raw = [KEY.to_owned(), format!("{KEY}_FILE")].into_iter().find(|name| self.text(name).is_some());
        if self.text(KEYSTORE).is_none() {
            if self.text(PASSWORD).is_some() {
                let origin = self.origin(PASSWORD);
                self.contradiction(format!("{origin} opens nothing: {KEYSTORE} is not set"));
            }
            if needed && raw.is_none() {
                self.missing(KEY, &format!("neither is its …_FILE, nor {KEYSTORE}"));
            }
            return self.secret(KEY, reader::private_key).map(WalletKey::Raw);
        }
        if let Some(raw) = raw {
            self.only_one_of(&raw, KEYSTORE);
            return None;
        }
        let keystore = self.keystore();
        if self.text(PASSWORD).is_none() {
            self.missing(PASSWORD, &format!("{KEYSTORE} is set"));
        }
        let (_, password) = self.secret_file(PASSWORD)?;
        // An editor ends a file with a line break that is no part of the password.
        let password = password.expose_secret().trim_end_matches(['\r', '\n']);
        Some(WalletKey::Keystore { file: keystore?, password: SecretString::from(password) })
    }

    /// A file that looks like a keystore. Whether the password opens it shows when it is opened.
    fn keystore(&mut self) -> Option<PathBuf> {
        let (path, text) = self.secret_file(KEYSTORE)?;
        let json: Option<serde_json::Value> = serde_json::from_str(text.expose_secret()).ok();
        if json.is_none_or(|json| json["version"] != 3 || !json["crypto"].is_object()) {
            self.wrong(KEYSTORE, &format!("{path:?}, which is none"));
            return None;
        }
        Some(path)
    }
}
