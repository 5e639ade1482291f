//! Every test loads from a folder of its own and from an environment that it makes up.

use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::secure_fs;

/// anvil's first public test key.
const KEY: &str = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";
const ADDRESS: &str = "0x5FbDB2315678afecb367f032d93F642f64180aa3";

struct Setup {
    folder: tempfile::TempDir,
    env: Vec<(String, String)>,
    flags: Vec<(String, String)>,
}

fn pairs(given: &[(&str, &str)]) -> Vec<(String, String)> {
    given.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

impl Setup {
    /// With what `run` cannot do without.
    fn complete() -> Self {
        Self::with(&[
            ("NOVA_SPECTRAL_API_KEY", "spectral-secret"),
            ("NOVA_ALCHEMY_API_KEY", "alchemy-secret"),
            ("NOVA_CLI_WALLET_PRIVATE_KEY", KEY),
            ("NOVA_MODEL_FILES_PATH", "files"),
        ])
    }

    fn with(env: &[(&str, &str)]) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), env: pairs(env), flags: Vec::new() }
    }

    fn and(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_string(), value.to_string()));
        self
    }

    fn file(self, name: &str, text: &str) -> Self {
        secure_fs::write_synced(&self.folder.path().join(name), text.as_bytes()).unwrap();
        self
    }

    /// Lets everybody read a file.
    fn opened(self, name: &str) -> Self {
        let path = self.folder.path().join(name);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
        self
    }

    fn load(&self, need: RequiredSettings) -> Result<Config, ConfigErrors> {
        let sources = Sources {
            toml: self.folder.path().join("nova.toml"),
            dotenv: self.folder.path().join(".env"),
            env: self.env.clone(),
            flags: self.flags.clone(),
        };
        Config::load(&sources, need)
    }

    /// The mistakes as a person sees them, without the temporary folder's name.
    fn mistakes(&self, need: RequiredSettings) -> String {
        let folder = format!("{}/", self.folder.path().display());
        let mistakes = self.load(need).expect_err("nothing was found wrong");
        mistakes.to_string().replace(&folder, "")
    }
}

fn raw_key(chain: &Chain) -> &str {
    match &chain.wallet_key {
        WalletKey::Raw(key) => key.expose_secret(),
        WalletKey::Keystore { .. } => panic!("it is a keystore"),
    }
}

fn chain(setup: &Setup) -> Chain {
    setup.load(RequiredSettings::Chain).unwrap().chain.unwrap()
}

#[test]
fn the_python_daemons_defaults_hold() {
    let config = Setup::complete().load(RequiredSettings::Chain).unwrap();
    assert_eq!(config.network, Network::ArbitrumOne);
    assert_eq!(config.log.level, LevelFilter::INFO);
    assert_eq!(config.storage, Storage::Local);
    assert_eq!(config.artifacts, Path::new("./artifacts"));
    assert!(config.submit_inferences && config.submit_proofs && config.polling.enabled);
    assert_eq!(config.polling.inference, Duration::from_secs(20));
    assert_eq!(config.polling.proof, Duration::from_secs(3600));
    assert_eq!(config.plumber_host, "https://plumber.spectral.finance");
    assert_eq!(config.pulse_host, "https://subscription-library.spectral.finance");
    let files = &config.model_files;
    assert_eq!(files.folder, Path::new("files"));
    assert_eq!(files.compiled, Path::new("files/model.ezkl"));
    assert_eq!(files.settings, Path::new("files/settings.json"));
    assert_eq!(files.proving_key, Path::new("files/model_pk.pk"));
    assert_eq!(files.srs, Path::new("files/kzg.srs"));

    let chain = config.chain.unwrap();
    assert_eq!(chain.chain_id, 42161);
    assert_eq!(chain.challenge_address, "0xFDC1BE05aD924e6Fc4Ab2c6443279fF7C0AB5544");
    assert_eq!(chain.tx_explorer_url, "https://arbiscan.io/tx");
    assert_eq!(chain.rpc_urls[0].expose_secret(), "https://arb-mainnet.g.alchemy.com/v2/alchemy-secret");
    assert_eq!((chain.gas_price_gwei, chain.gas), (None, None));
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
}

#[test]
fn later_layers_win() {
    let mut setup = Setup::with(&[]);
    let polling = |setup: &Setup| setup.load(RequiredSettings::Offline).unwrap().polling.inference;
    assert_eq!(polling(&setup), Duration::from_secs(20));
    setup = setup.file("nova.toml", "inference_polling_interval = 21");
    assert_eq!(polling(&setup), Duration::from_secs(21));
    setup = setup.file(".env", "NOVA_INFERENCE_POLLING_INTERVAL=22");
    assert_eq!(polling(&setup), Duration::from_secs(22));
    setup = setup.and("NOVA_INFERENCE_POLLING_INTERVAL", "23");
    assert_eq!(polling(&setup), Duration::from_secs(23));
    setup.flags = pairs(&[("NOVA_INFERENCE_POLLING_INTERVAL", "0.5")]);
    assert_eq!(polling(&setup), Duration::from_millis(500));
}

#[test]
fn a_network_presets_and_anything_set_wins_over_it() {
    let setup = Setup::complete().and("NOVA_NETWORK", "arbitrum-sepolia").and("NOVA_CHALLENGE_ADDRESS", ADDRESS);
    let sepolia = chain(&setup);
    assert_eq!(sepolia.chain_id, 421614);
    assert_eq!(sepolia.tx_explorer_url, "https://sepolia.arbiscan.io/tx");
    assert!(sepolia.rpc_urls[0].expose_secret().starts_with("https://arb-sepolia.g.alchemy.com/v2/"));
    let setup = setup.file("nova.toml", "chain_id = 5");
    assert_eq!(chain(&setup).chain_id, 5);
}

#[test]
fn finality_is_a_tag_or_a_depth() {
    let finality = |text: &str| chain(&Setup::complete().and("NOVA_FINALITY", text)).finality;
    assert_eq!(chain(&Setup::complete()).finality, Finality::Finalized);
    assert_eq!(finality("Safe"), Finality::Safe);
    assert_eq!(finality("64"), Finality::Blocks(64));
    let mistake = Setup::complete().and("NOVA_FINALITY", "soon").mistakes(RequiredSettings::Chain);
    assert!(mistake.contains("expected finalized, safe or a number of blocks"), "{mistake}");
}

#[test]
fn pythons_are_named_by_their_versions() {
    let pythons =
        |text: &str| Setup::with(&[("NOVA_PYTHONS", text)]).load(RequiredSettings::Offline).unwrap().ezkl.pythons;
    assert!(Setup::with(&[]).load(RequiredSettings::Offline).unwrap().ezkl.pythons.is_empty());
    let read = pythons("23.0.5:/a/python, 22.3.0 : b:c/python,");
    let read: Vec<_> = read.iter().map(|(version, path)| (version.as_str(), path.to_str().unwrap())).collect();
    assert_eq!(read, [("22.3.0", "b:c/python"), ("23.0.5", "/a/python")]);
    for wrong in ["/a/python", "23.0.5", "23.0.5:", ":/a/python", "python:/a", "23 .0:/a", "22.3.0:/a,/b"] {
        let mistakes = Setup::with(&[("NOVA_PYTHONS", wrong)]).mistakes(RequiredSettings::Offline);
        let shown = format!("{:?}", wrong.split(',').next_back().unwrap());
        assert!(mistakes.contains("NOVA_PYTHONS") && mistakes.contains(&shown), "{mistakes}");
    }
    let twice = Setup::with(&[("NOVA_PYTHONS", "22.3.0:/a,22.3.0:/b")]).mistakes(RequiredSettings::Offline);
    assert!(twice.contains("two Pythons of version 22.3.0"), "{twice}");
}

#[test]
fn the_canary_is_daily_unless_it_is_said_otherwise() {
    let interval = |env: &[(&str, &str)]| Setup::with(env).load(RequiredSettings::Offline).unwrap().canary_interval;
    assert_eq!(interval(&[]), Some(Duration::from_secs(86_400)));
    assert_eq!(interval(&[("NOVA_CANARY_INTERVAL", "0")]), None);
    assert_eq!(interval(&[("NOVA_CANARY_INTERVAL", "1.5")]), Some(Duration::from_millis(1500)));
    for wrong in ["-1", "daily", "NaN", "inf"] {
        let mistakes = Setup::with(&[("NOVA_CANARY_INTERVAL", wrong)]).mistakes(RequiredSettings::Offline);
        assert!(mistakes.contains("expected seconds, or 0 for never"), "{mistakes}");
    }
}

#[test]
fn an_empty_variable_counts_as_not_set() {
    let setup = Setup::complete().file("nova.toml", "gas = 5");
    assert_eq!(chain(&setup.and("NOVA_GAS", " ")).gas, Some(5));
}

#[test]
fn a_key_of_digits_stays_the_key_it_was() {
    let setup =
        Setup::complete().and("NOVA_ALCHEMY_API_KEY", "0012345678901234567890").and("NOVA_SPECTRAL_API_KEY", "007");
    let config = setup.load(RequiredSettings::Chain).unwrap();
    assert_eq!(config.spectral_api_key.unwrap().expose_secret(), "007");
    let url = &config.chain.unwrap().rpc_urls[0];
    assert!(url.expose_secret().ends_with("/v2/0012345678901234567890"));
}

#[test]
fn booleans_are_read_as_python_writes_them() {
    for (text, truth) in [("True", true), ("1", true), ("yes", true), ("False", false), ("0", false), ("NO", false)] {
        let config = Setup::with(&[("NOVA_POLLING_ENABLED", text)]).load(RequiredSettings::Offline);
        assert_eq!(config.unwrap().polling.enabled, truth, "{text}");
    }
    let toml = Setup::with(&[]).file("nova.toml", "polling_enabled = false");
    assert!(!toml.load(RequiredSettings::Offline).unwrap().polling.enabled);
}

#[test]
fn log_levels_are_pythons() {
    for (text, level) in [("WARNING", LevelFilter::WARN), ("critical", LevelFilter::ERROR)] {
        let config = Setup::with(&[("NOVA_LOG_LEVEL", text)]).load(RequiredSettings::Offline);
        assert_eq!(config.unwrap().log.level, level);
    }
}

#[test]
fn rpc_urls_win_over_alchemy() {
    let setup = Setup::complete().and("NOVA_RPC_URLS", "http://127.0.0.1:8545/, https://b.example/k");
    let urls: Vec<_> = chain(&setup).rpc_urls.iter().map(|url| url.expose_secret().to_string()).collect();
    assert_eq!(urls, ["http://127.0.0.1:8545", "https://b.example/k"]);
    let list = Setup::complete().file("nova.toml", r#"rpc_urls = ["https://a.example", "https://b.example"]"#);
    assert_eq!(chain(&list).rpc_urls.len(), 2);
}

#[test]
fn setup_and_predict_need_no_key_and_no_chain() {
    let config = Setup::with(&[]).load(RequiredSettings::Offline).unwrap();
    assert!(config.chain.is_none() && config.spectral_api_key.is_none());
    assert_eq!(config.model_files.onnx, Path::new("model_files/model.onnx"));
    let devnet = Setup::with(&[("NOVA_NETWORK", "devnet")]);
    assert!(devnet.load(RequiredSettings::Offline).is_ok());
}

#[test]
fn inline_features_need_no_key_of_spectral() {
    let mut setup = Setup::complete().and("NOVA_FEATURE_SOURCE", "inline");
    setup.env.remove(0);
    let config = setup.load(RequiredSettings::Chain).unwrap();
    assert!(config.warnings[0].contains("NOVA_SPECTRAL_API_KEY"));
}

#[test]
fn a_project_python_is_found() {
    let setup = Setup::with(&[]);
    let python = |setup: &Setup| setup.load(RequiredSettings::Offline).unwrap().ezkl.python;
    assert_eq!(python(&setup), Path::new("python3"));
    let own = setup.folder.path().join("ezkl/.venv/bin/python");
    std::fs::create_dir_all(own.parent().unwrap()).unwrap();
    std::fs::write(&own, "").unwrap();
    assert_eq!(python(&setup), own);
    let named = setup.and("NOVA_PYTHON", "/opt/python");
    assert_eq!(python(&named), Path::new("/opt/python"));
}

#[test]
fn everything_missing_is_named_at_once() {
    let mistakes = Setup::with(&[]).mistakes(RequiredSettings::Chain);
    for name in ["NOVA_SPECTRAL_API_KEY", "NOVA_ALCHEMY_API_KEY", "NOVA_CLI_WALLET_PRIVATE_KEY"] {
        assert!(mistakes.contains(&format!("{name} is not set")), "{mistakes}");
    }
    assert!(mistakes.starts_with("3 settings are wrong:"), "{mistakes}");
}

#[test]
fn every_mistake_is_reported_with_its_place_what_was_found_and_what_is_expected() {
    let setup = Setup::complete()
        .file(".env", "NOVA_GAS=many\nNOVA_SLA_SECONDS=0")
        .file("nova.toml", "plumber_host = 'plumber'\ninference_decimals = 78")
        .and("NOVA_HTTP_ADDRESS", "9464")
        .and("NOVA_POLLING_ENABLED", "maybe")
        .and("NOVA_STORAGE_PROVIDER", "s3")
        .and("NOVA_CHALLENGE_ADDRESS", "0x123")
        .and("NOVA_PROVE_TIMEOUT", "-1")
        .and("NOVA_MAX_DIVERGENCE", "NaN");
    let mistakes = setup.mistakes(RequiredSettings::Chain);
    for line in [
        r#"NOVA_GAS in .env: found "many", expected a whole number, at least 1"#,
        r#"NOVA_SLA_SECONDS in .env: found "0", expected whole seconds, at least 1"#,
        r#"`plumber_host` in nova.toml: found "plumber", expected an http:// or https:// URL"#,
        r#"`inference_decimals` in nova.toml: found "78", expected a whole number, 0 to 77"#,
        r#"NOVA_HTTP_ADDRESS in the environment: found "9464", expected address and port, such as 127.0.0.1:9464"#,
        r#"NOVA_POLLING_ENABLED in the environment: found "maybe", expected True or False (1/0, yes/no, on/off)"#,
        "NOVA_S3_BUCKET is not set (NOVA_STORAGE_PROVIDER is s3): expected the name of a bucket. The bucket. Required with `s3`.",
        r#"NOVA_CHALLENGE_ADDRESS in the environment: found "0x123", expected an address: 0x and 40 hex digits"#,
        r#"NOVA_PROVE_TIMEOUT in the environment: found "-1", expected seconds, above 0"#,
        r#"NOVA_MAX_DIVERGENCE in the environment: found "NaN", expected a number, at least 0"#,
    ] {
        assert!(mistakes.lines().any(|found| found.trim() == line), "{line}\nnot in\n{mistakes}");
    }
    assert_eq!(mistakes.lines().count(), 11, "{mistakes}");
}

#[test]
fn contradictions_are_mistakes() {
    let sepolia = Setup::complete().and("NOVA_NETWORK", "arbitrum-sepolia");
    let mistakes = sepolia.mistakes(RequiredSettings::Chain);
    assert!(mistakes.contains("NOVA_CHALLENGE_ADDRESS is not set (arbitrum-sepolia has no public one)"), "{mistakes}");
    let fees = Setup::complete().and("NOVA_GAS_PRICE_GWEI", "2").and("NOVA_MAX_FEE_GWEI", "1");
    assert!(fees.mistakes(RequiredSettings::Chain).contains("is above NOVA_MAX_FEE_GWEI"));
    let fees = Setup::complete().and("NOVA_PRIORITY_FEE_GWEI", "2").and("NOVA_MAX_FEE_GWEI", "1");
    assert!(fees.mistakes(RequiredSettings::Chain).contains("is above NOVA_MAX_FEE_GWEI"));
    let fees = Setup::complete().and("NOVA_PRIORITY_FEE_GWEI", "2").and("NOVA_GAS_PRICE_GWEI", "1");
    assert!(fees.mistakes(RequiredSettings::Chain).contains("fixes the whole price"));
    let network = Setup::complete().and("NOVA_NETWORK", "mainnet");
    let mistakes = network.mistakes(RequiredSettings::Chain);
    assert!(mistakes.contains(r#"found "mainnet", expected arbitrum-one"#), "{mistakes}");
    assert_eq!(mistakes.lines().count(), 2, "no mistakes that follow from it: {mistakes}");
}

#[test]
fn devnet_says_where_its_settings_come_from() {
    let setup = Setup::with(&[("NOVA_NETWORK", "devnet"), ("NOVA_CLI_WALLET_PRIVATE_KEY", KEY)]);
    let mistakes = setup.mistakes(RequiredSettings::Chain);
    for name in ["NOVA_RPC_URLS", "NOVA_CHALLENGE_ADDRESS", "NOVA_PLUMBER_HOST", "NOVA_PULSE_HOST"] {
        let line = format!("{name} is not set (`devnet up` writes it to .env)");
        assert!(mistakes.contains(&line), "{mistakes}");
    }
}

#[test]
fn unknown_keys_of_nova_toml_are_mistakes_and_unknown_variables_warnings() {
    let toml = Setup::complete().file("nova.toml", "gas_prise_gwei = 1\n[network]\nx = 1");
    let mistakes = toml.mistakes(RequiredSettings::Chain);
    assert!(
        mistakes.contains("`gas_prise_gwei` in nova.toml is no setting; did you mean `gas_price_gwei`?"),
        "{mistakes}"
    );
    assert!(mistakes.contains("`network` in nova.toml: expected one value"), "{mistakes}");

    let env = Setup::complete().and("NOVA_GASS", "1").and("NOVA_ANVIL", "/usr/bin/anvil");
    assert_eq!(
        env.load(RequiredSettings::Chain).unwrap().warnings,
        ["NOVA_GASS in the environment is no setting; did you mean NOVA_GAS?"]
    );
}

#[test]
fn files_that_cannot_be_parsed_are_named_and_not_quoted() {
    let toml = Setup::complete().file("nova.toml", "gas = 1\nspectral_api_key = tell-nobody\n");
    let mistakes = toml.mistakes(RequiredSettings::Chain);
    assert!(mistakes.contains("nova.toml: TOML parse error at line 2"), "{mistakes}");
    let dotenv = Setup::complete().file(".env", "NOVA_GAS=1\nNOVA_SPECTRAL_API_KEY='tell-nobody\n");
    let mistakes = mistakes + &dotenv.mistakes(RequiredSettings::Chain);
    assert!(mistakes.contains("NOVA_SPECTRAL_API_KEY in .env (line 2): its value begins with a quote"), "{mistakes}");
    assert!(!mistakes.contains("tell-nobody"), "{mistakes}");
}

/// Case 05 of the public reports, and what is beside it.
#[test]
fn regression_values_from_shells_are_understood_or_refused() {
    let key = |setup: &Setup| {
        setup.load(RequiredSettings::Features).unwrap().spectral_api_key.unwrap().expose_secret().to_owned()
    };
    let in_file = |line: &str| {
        Setup::with(&[("NOVA_ALCHEMY_API_KEY", "a")]).file(".env", &format!("NOVA_SPECTRAL_API_KEY={line}\n"))
    };
    assert_eq!(key(&in_file("'sk-ab$cdEF12'")), "sk-ab$cdEF12");
    let mistakes = in_file("sk-ab$cdEF12\nAWS_SECRET_ACCESS_KEY=ab$cd/ef").mistakes(RequiredSettings::Features);
    for said in
        ["NOVA_SPECTRAL_API_KEY in .env (line 1): its value has a `$`", "AWS_SECRET_ACCESS_KEY in .env (line 2)"]
    {
        assert!(mistakes.contains(said), "{mistakes}");
    }
    assert!(!mistakes.contains("cd"), "{mistakes}");

    let passed = |text: &str| Setup::with(&[("NOVA_SPECTRAL_API_KEY", text)]);
    assert_eq!(key(&passed("sk-ab$cdEF12")), "sk-ab$cdEF12");
    assert_eq!(key(&passed("'sk-ab$cdEF12'")), "sk-ab$cdEF12");
    let mistakes = passed("'sk-abcd").mistakes(RequiredSettings::Features);
    assert!(mistakes.contains("NOVA_SPECTRAL_API_KEY in the environment: its value begins with a quote"), "{mistakes}");
    let mistakes = passed("key").and("NOVA_ARTIFACTS_PATH", "/var/nova # theirs").mistakes(RequiredSettings::Features);
    assert!(
        mistakes.contains("NOVA_ARTIFACTS_PATH in the environment: its value has a remark behind it"),
        "{mistakes}"
    );

    let setup = passed("key").and("AWS_SECRET_ACCESS_KEY", "\"ab/cd\"").and("AWS_REGION", "eu-west-1");
    let aws = setup.load(RequiredSettings::Features).unwrap().aws;
    let told: Vec<_> = aws.iter().map(|(name, value)| (name.as_str(), value.expose_secret())).collect();
    assert_eq!(told, [("AWS_SECRET_ACCESS_KEY", "ab/cd")]);

    let file = passed("").file("key", "\"sk-ab\\$cd\"\n");
    let path = file.folder.path().join("key").display().to_string();
    assert_eq!(key(&file.and("NOVA_SPECTRAL_API_KEY_FILE", &path)), "sk-ab$cd");
}

#[test]
fn a_private_key_is_checked_and_never_shown() {
    let zero = "0".repeat(64);
    let beyond = "f".repeat(64);
    let not_hex = format!("{}z", &KEY[1..]);
    for key in [&KEY[1..], &not_hex, &zero, &beyond, "word word word"] {
        let mistakes = Setup::complete().and("NOVA_CLI_WALLET_PRIVATE_KEY", key).mistakes(RequiredSettings::Chain);
        assert!(mistakes.contains("NOVA_CLI_WALLET_PRIVATE_KEY in the environment: found"), "{mistakes}");
        assert!(!mistakes.contains(key), "{mistakes}");
    }
    let prefixed = format!("0x{}", KEY.to_ascii_uppercase());
    let setup = Setup::complete().and("NOVA_CLI_WALLET_PRIVATE_KEY", &prefixed);
    assert_eq!(raw_key(&chain(&setup)), KEY);
}

#[test]
fn secrets_come_from_files_too() {
    let setup = Setup::with(&[]).file("key", &format!("0x{KEY}\n")).file("alchemy", "abc\n").file("spectral", " def ");
    let path = |name: &str| setup.folder.path().join(name).display().to_string();
    let (key, alchemy, spectral) = (path("key"), path("alchemy"), path("spectral"));
    let setup = setup
        .and("NOVA_CLI_WALLET_PRIVATE_KEY_FILE", &key)
        .and("NOVA_ALCHEMY_API_KEY_FILE", &alchemy)
        .and("NOVA_SPECTRAL_API_KEY_FILE", &spectral);
    let config = setup.load(RequiredSettings::Chain).unwrap();
    assert_eq!(config.spectral_api_key.unwrap().expose_secret(), "def");
    let chain = config.chain.unwrap();
    assert_eq!(raw_key(&chain), KEY);
    assert!(chain.rpc_urls[0].expose_secret().ends_with("/v2/abc"));

    let setup = setup
        .file("key", "tell-nobody")
        .file("spectral", "")
        .and("NOVA_ALCHEMY_API_KEY_FILE", "/nowhere/alchemy")
        .and("NOVA_SPECTRAL_API_KEY", "x");
    let mistakes = setup.mistakes(RequiredSettings::Chain);
    assert!(
        mistakes.contains("NOVA_CLI_WALLET_PRIVATE_KEY_FILE in the environment: found 11 characters (not shown)"),
        "{mistakes}"
    );
    assert!(mistakes.contains("\"/nowhere/alchemy\", which cannot be read"), "{mistakes}");
    assert!(mistakes.contains("both are set, expected only one"), "{mistakes}");
    assert!(!mistakes.contains("tell-nobody"), "{mistakes}");
}

#[test]
fn no_mistake_shows_a_secret() {
    let setup = Setup::complete()
        .and("NOVA_RPC_URLS", "https://a.example/tell-nobody, tell-nobody")
        .and("NOVA_RPC_WS_URL", "http://tell-nobody")
        .and("NOVA_SPECTRAL_API_KEY", "tell nobody");
    let mistakes = setup.mistakes(RequiredSettings::Chain);
    assert!(mistakes.contains("no URL at place 2"), "{mistakes}");
    assert_eq!(mistakes.lines().count(), 4, "{mistakes}");
    assert!(!mistakes.contains("nobody"), "{mistakes}");
}

#[test]
fn debug_of_the_settings_shows_no_secret() {
    let setup = Setup::complete().file(".env", "AWS_SECRET_ACCESS_KEY=aws-secret");
    let config = setup.load(RequiredSettings::Chain).unwrap();
    assert_eq!(config.aws[0].1.expose_secret(), "aws-secret");
    let shown = format!("{config:?}");
    for secret in ["spectral-secret", "alchemy-secret", KEY, "aws-secret"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[test]
fn a_keystore_takes_the_place_of_a_raw_key() {
    let without_key = || {
        let mut setup = Setup::complete();
        setup.env.retain(|(name, _)| name != "NOVA_CLI_WALLET_PRIVATE_KEY");
        setup
            .file("key.json", r#"{"version": 3, "crypto": {}}"#)
            .file("password", " two words \n")
            .file("other.json", "{}")
    };
    let setup = without_key();
    let path = |setup: &Setup, name: &str| setup.folder.path().join(name).display().to_string();
    let (keystore, password) = (path(&setup, "key.json"), path(&setup, "password"));
    let setup =
        setup.and("NOVA_CLI_WALLET_KEYSTORE", &keystore).and("NOVA_CLI_WALLET_KEYSTORE_PASSWORD_FILE", &password);
    let WalletKey::Keystore { file, password } = chain(&setup).wallet_key else { panic!("no keystore") };
    assert_eq!(file, Path::new(&keystore));
    assert_eq!(password.expose_secret(), " two words ", "all but the end of the line is the password");

    let both = setup.and("NOVA_CLI_WALLET_PRIVATE_KEY", KEY).mistakes(RequiredSettings::Chain);
    assert!(both.contains("NOVA_CLI_WALLET_PRIVATE_KEY in the environment and NOVA_CLI_WALLET_KEYSTORE in"), "{both}");
    assert!(both.contains("both are set, expected only one") && !both.contains(KEY), "{both}");

    let setup = without_key();
    let other = path(&setup, "other.json");
    let mistakes = setup.and("NOVA_CLI_WALLET_KEYSTORE", &other).mistakes(RequiredSettings::Chain);
    assert!(
        mistakes.contains("other.json\", which is none, expected a keystore file of geth's version 3"),
        "{mistakes}"
    );
    let missing = "NOVA_CLI_WALLET_KEYSTORE_PASSWORD_FILE is not set (NOVA_CLI_WALLET_KEYSTORE is set)";
    assert!(mistakes.contains(missing), "{mistakes}");

    let setup = without_key();
    let password = path(&setup, "password");
    let mistakes = setup.and("NOVA_CLI_WALLET_KEYSTORE_PASSWORD_FILE", &password).mistakes(RequiredSettings::Chain);
    assert!(mistakes.contains("opens nothing: NOVA_CLI_WALLET_KEYSTORE is not set"), "{mistakes}");
    assert!(mistakes.contains("NOVA_CLI_WALLET_PRIVATE_KEY is not set (neither is its …_FILE, nor"), "{mistakes}");
}

#[test]
fn files_of_secrets_that_others_may_read_are_refused() {
    let setup = Setup::complete().file("key", KEY).opened("key");
    let key = setup.folder.path().join("key").display().to_string();
    let mut setup = setup.and("NOVA_CLI_WALLET_PRIVATE_KEY_FILE", &key);
    setup.env.retain(|(name, _)| name != "NOVA_CLI_WALLET_PRIVATE_KEY");
    let mistakes = setup.mistakes(RequiredSettings::Chain);
    assert!(mistakes.contains("may read key (its mode is 0644): run `chmod 600 key`"), "{mistakes}");

    let dotenv = Setup::complete().file(".env", "NOVA_GAS=5\nNOVA_SPECTRAL_API_KEY=tell-nobody").opened(".env");
    let mistakes = dotenv.mistakes(RequiredSettings::Offline);
    assert!(mistakes.contains(".env holds NOVA_SPECTRAL_API_KEY: others than its owner may read .env"), "{mistakes}");
    assert!(mistakes.contains("`chmod 600 .env`") && !mistakes.contains("tell-nobody"), "{mistakes}");
    let toml = Setup::complete().file("nova.toml", "rpc_urls = 'https://x.example/key'").opened("nova.toml");
    assert!(toml.mistakes(RequiredSettings::Offline).contains("nova.toml holds rpc_urls: others"));
    let aws = Setup::complete().file(".env", "AWS_SECRET_ACCESS_KEY=tell-nobody").opened(".env");
    assert!(aws.mistakes(RequiredSettings::Offline).contains(".env holds AWS_SECRET_ACCESS_KEY: others"));

    // Where no secret is in it, anybody may read it.
    let open = Setup::complete().file(".env", "NOVA_GAS=5\nNOVA_SPECTRAL_API_KEY=").opened(".env");
    assert_eq!(chain(&open.file("nova.toml", "gas = 4").opened("nova.toml")).gas, Some(5));
}

#[test]
fn what_is_not_encrypted_is_for_this_machine_only() {
    let insecure = || {
        Setup::complete()
            .and("NOVA_PLUMBER_HOST", "http://plumber.example")
            .and("NOVA_PULSE_HOST", "http://10.0.0.5:8080")
            .and("NOVA_IPFS_GATEWAY", "http://127.0.0.1@evil.example")
            .and("NOVA_RPC_URLS", "https://a.example/k, http://tell-nobody.example/k")
            .and("NOVA_RPC_WS_URL", "ws://tell-nobody.example/k")
            .and("NOVA_STORAGE_PROVIDER", "s3")
            .and("NOVA_S3_BUCKET", "bucket")
            .and("AWS_ENDPOINT_URL", "http://minio:9000")
    };
    let mistakes = insecure().mistakes(RequiredSettings::Chain);
    for name in ["PLUMBER_HOST", "PULSE_HOST", "IPFS_GATEWAY", "RPC_URLS", "RPC_WS_URL"] {
        let found = mistakes.lines().find(|line| line.contains(&format!("NOVA_{name} in the environment: found")));
        assert!(found.is_some_and(|line| line.contains("which is reached without TLS")), "{name}: {mistakes}");
    }
    assert!(
        mistakes.contains("AWS_ENDPOINT_URL: found \"http://minio:9000\", which is reached without TLS"),
        "{mistakes}"
    );
    assert!(mistakes.contains("a URL at place 2 (not shown)") && !mistakes.contains("tell-nobody"), "{mistakes}");
    assert_eq!(mistakes.lines().count(), 7, "{mistakes}");
    insecure().and("NOVA_ALLOW_INSECURE_HTTP", "True").load(RequiredSettings::Chain).unwrap();

    for here in ["http://localhost:1", "http://127.0.0.2:1", "http://[::1]:1", "http://plumber.localhost"] {
        Setup::complete().and("NOVA_PLUMBER_HOST", here).load(RequiredSettings::Chain).unwrap();
    }
    for elsewhere in ["http://127.0.0.1.example", "http://localhost.example", "http://0.0.0.0:1", "http://[::2]"] {
        Setup::complete().and("NOVA_PLUMBER_HOST", elsewhere).mistakes(RequiredSettings::Chain);
    }
}
