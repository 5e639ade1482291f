//! Keystores as geth makes them, with a key derivation that takes no time.

use std::fs;
use std::path::Path;

use ethers::core::rand::thread_rng;
use secrecy::SecretString;

use super::*;

/// anvil's first public test key.
const KEY: &str = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";
const ADDRESS: &str = "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266";
const PASSWORD: &str = "correct horse";

fn keystore(folder: &Path) -> std::path::PathBuf {
    let key = hex::decode(KEY).unwrap();
    LocalWallet::encrypt_keystore(folder, &mut thread_rng(), key, PASSWORD, Some("key.json")).unwrap();
    folder.join("key.json")
}

async fn opened(file: &Path, password: &str) -> Result<LocalWallet> {
    open(&WalletKey::Keystore { file: file.to_owned(), password: SecretString::from(password) }, 31337).await
}

#[tokio::test]
async fn a_keystore_opens_with_its_password_and_with_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let file = keystore(folder.path());
    let wallet = opened(&file, PASSWORD).await.unwrap();
    assert_eq!((to_hex(wallet.address()), wallet.chain_id()), (ADDRESS.to_owned(), 31337));

    let Err(Fault::Fatal(error)) = opened(&file, "staple").await else { panic!("it was opened") };
    let told = error.to_string();
    assert!(told.contains("key.json") && told.contains("NOVA_CLI_WALLET_KEYSTORE_PASSWORD_FILE"), "{told}");
    assert!(!told.contains("staple"), "{told}");
}

#[tokio::test]
async fn a_file_that_is_no_keystore_is_not_quoted() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key.json");
    for damaged in [format!("\"{KEY}\""), format!("{{\"version\": 3, \"crypto\": \"{KEY}\"}}"), String::new()] {
        fs::write(&file, damaged).unwrap();
        let told = opened(&file, PASSWORD).await.unwrap_err().to_string();
        assert!(told.contains("key.json") && told.contains("is damaged"), "{told}");
        assert!(!told.contains(KEY), "{told}");
    }
}

#[tokio::test]
async fn doctor_says_whose_key_it_is_and_where_from() {
    let folder = tempfile::tempdir().unwrap();
    let raw = WalletKey::Raw(SecretString::from(KEY));
    assert_eq!(describe(&raw).await.unwrap(), format!("{ADDRESS}, its key is given as it is"));
    let file = keystore(folder.path());
    let kept = WalletKey::Keystore { file, password: SecretString::from(PASSWORD) };
    let told = describe(&kept).await.unwrap();
    assert!(told.starts_with(ADDRESS) && told.contains("in the keystore") && told.ends_with("key.json"), "{told}");
}
