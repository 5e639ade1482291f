//! What is handed to Spectral's hosting.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use zip::ZipArchive;

use crate::common::assert_contains_all;
use crate::common::model_files::PROJECT;
use crate::common::project::Project;
use crate::common::secrets::{PLUMBER_KEY, PRIVATE_KEY};

/// With the sources that a stamp has.
fn with_sources() -> Project {
    let project = Project::new();
    fs::create_dir(project.path().join("src")).unwrap();
    for name in [".nova-template.toml", "Cargo.toml", "Cargo.lock", "src/hooks.rs"] {
        fs::copy(Path::new(PROJECT).join(name), project.path().join(name)).unwrap();
    }
    add(&project, "nova.toml", "network = \"devnet\"\n");
    project
}

fn add(project: &Project, name: &str, text: &str) {
    let path = project.path().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

#[tokio::test]
async fn a_bundle_has_hooks_dependencies_and_model_files_and_nothing_else() {
    let project = with_sources();
    add(&project, "src/hooks/more.rs", "// Mine.\n");
    add(&project, "model_files/columns/order.json", "[]\n");
    add(&project, "model_files/.env", "NOVA_SPECTRAL_API_KEY=x\n");
    add(&project, "src/else.rs", "// Of the template.\n");
    let says = project.nova(&["bundle"]).succeed().await;

    let bundle = project.path().join("upload.zip");
    assert_eq!(fs::metadata(&bundle).unwrap().permissions().mode() & 0o077, 0, "others may read the model");
    let mut archive = ZipArchive::new(File::open(&bundle).unwrap()).unwrap();
    let names: Vec<String> = archive.file_names().map(|name| name.unwrap().into_owned()).collect();
    let of_model =
        ["circuit.onnx", "kzg.srs", "model.ezkl", "model.onnx", "model_pk.pk", "model_vk.vk", "preprocessing.json"];
    let of_setup = ["settings.json", "setup.json", "verifier.sol", "columns/order.json"];
    let mut expected: Vec<String> =
        of_model.into_iter().chain(of_setup).map(|name| format!("model_files/{name}")).collect();
    let of_project = [".nova-template.toml", "Cargo.lock", "Cargo.toml", "src/hooks.rs", "src/hooks/more.rs"];
    expected.extend(of_project.map(str::to_owned));
    expected.sort();
    assert_eq!(names, expected);
    for name in &names {
        let mut packed = Vec::new();
        archive.by_name(name).unwrap().read_to_end(&mut packed).unwrap();
        assert!(packed == fs::read(project.path().join(name)).unwrap(), "{name}");
        assert_contains_all(&says, &[name]);
    }
    assert_contains_all(&says, &["upload.zip: 16 files", "MiB"]);
}

#[tokio::test]
async fn no_key_gets_into_a_bundle() {
    let project = with_sources();
    add(&project, "src/hooks.rs", &format!("const KEY: &str = \"{PLUMBER_KEY}\";\n"));
    add(&project, "src/hooks/wallet.rs", &format!("const KEY: &str = \"{PRIVATE_KEY}\";\n"));
    add(&project, "model_files/my.key", "");
    add(&project, "model_files/tls.txt", "-----BEGIN PRIVATE KEY-----\n");
    add(&project, ".env", &format!("NOVA_SPECTRAL_API_KEY={PLUMBER_KEY}\n"));
    fs::set_permissions(project.path().join(".env"), fs::Permissions::from_mode(0o600)).unwrap();
    add(&project, "key", &format!("0x{PRIVATE_KEY}\n"));
    fs::set_permissions(project.path().join("key"), fs::Permissions::from_mode(0o600)).unwrap();
    let bundle = || project.nova(&["bundle", "--output", "mine.zip"]).env("NOVA_CLI_WALLET_PRIVATE_KEY_FILE", "key");
    let says = [
        "nothing was written",
        "src/hooks.rs holds a secret of your settings",
        "src/hooks/wallet.rs holds a secret of your settings",
        "model_files/my.key: its name is that of a file with keys",
        "model_files/tls.txt holds a private key",
    ];
    bundle().fail(&says).await;
    assert!(!project.path().join("mine.zip").exists());

    for name in ["src/hooks/wallet.rs", "model_files/my.key", "model_files/tls.txt"] {
        fs::remove_file(project.path().join(name)).unwrap();
    }
    add(&project, "src/hooks.rs", "// Clean.\n");
    assert_contains_all(&bundle().succeed().await, &["mine.zip: 14 files"]);
}

#[tokio::test]
async fn what_could_not_be_built_or_proven_elsewhere_is_not_bundled() {
    let project = Project::new();
    let bare = project.nova(&["bundle"]).env("NOVA_NETWORK", "devnet");
    bare.fail(&[".nova-template.toml is not there", "in its folder"]).await;

    let project = with_sources();
    let manifest = fs::read_to_string(project.path().join("Cargo.toml")).unwrap();
    let place = "Upgrades keep it.\n";
    add(&project, "Cargo.toml", &manifest.replace(place, &format!("{place}mine = {{ path = \"../mine\" }}\n")));
    project.nova(&["bundle"]).fail(&["the dependency `mine` lies in \"../mine\"", "Cargo.toml"]).await;
    add(&project, "Cargo.toml", &manifest);

    let on_mainnet = project.nova(&["bundle"]).env("NOVA_NETWORK", "arbitrum-one");
    on_mainnet.fail(&["kzg.srs is not the SRS of a public ceremony"]).await;
    project.remove_model_file("model_pk.pk");
    project.nova(&["bundle"]).fail(&["model_pk.pk", "Run `nova setup`"]).await;
    assert!(!project.path().join("upload.zip").exists());
}
