//! No output of the program shows a key: not the log at its most talkative, not an error, not what others may read of its
//! process. (That no other test's output does, `common` asserts.)

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use ethers::signers::LocalWallet;
use tokio::net::TcpListener;

use crate::common::net::Net;
use crate::common::nova::Nova;
use crate::common::project::Project;
use crate::common::proxy::{Act, Proxy};
use crate::common::secrets::{KEYSTORE_PASSWORD, PLUMBER_KEY, PRIVATE_KEY, RPC_KEY, assert_none};
use crate::common::{DEFAULT_TIMEOUT, wait_until};

/// A Plumber in trouble, which echoes what it was sent, the key too. Returns its URL.
async fn echoing_plumber() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let echo = async |headers: HeaderMap| (StatusCode::INTERNAL_SERVER_ERROR, format!("cannot serve {headers:?}"));
    let router = Router::new().fallback(echo);
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_shown_nowhere() {
    let (project, net) = (Project::new(), Net::start().await);
    let proxy = Proxy::start(net.devnet.rpc_url()).await;
    let failing = Proxy::saying(500, "").await;
    // The settings as an operator has them: most in .env, the key in a keystore.
    let mut env: Vec<_> = net.env().into_iter().filter(|(name, _)| !name.contains("PRIVATE_KEY")).collect();
    env.push(("NOVA_RPC_URLS", format!("{},{}", failing.url(), proxy.url())));
    env.push(("NOVA_PLUMBER_HOST", echoing_plumber().await));
    let lines: String = env.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    write_private(&project, ".env", &lines);
    write_private(&project, "password", &format!("{KEYSTORE_PASSWORD}\n"));
    let key: Vec<u8> = ethers::utils::hex::decode(PRIVATE_KEY).unwrap();
    let mut random = ethers::core::rand::thread_rng();
    LocalWallet::encrypt_keystore(project.path(), &mut random, key, KEYSTORE_PASSWORD, Some("wallet.json")).unwrap();
    close_to_others(&project, "wallet.json");
    let nova = |arguments: &[&str]| {
        let keystore = project.nova(arguments).env("NOVA_CLI_WALLET_KEYSTORE", "wallet.json");
        keystore.env("NOVA_CLI_WALLET_KEYSTORE_PASSWORD_FILE", "password")
    };

    let daemon = nova(&["run"]).env("NOVA_LOG_LEVEL", "TRACE").start().ready().await;
    let request = &net.ask(1).await[0];
    let row = project.request_row(request.id, "tried again", |row| row.reason.is_some()).await;
    assert!(row.reason.unwrap().contains("[key]"), "the answer that echoes the key is quoted");
    proxy.rule(|_, _| Act::Say(500, ""));
    daemon.wait_for_log("does not work, trying on").await;
    assert_eq!(daemon.readyz().await.unwrap().0, 503);
    proxy.rule(|_, _| Act::Pass);
    assert!(!daemon.workers().is_empty());
    for (id, whose) in daemon.workers().iter().map(|(id, _)| (*id, "a worker")).chain([(daemon.pid(), "the daemon")]) {
        let read = |file: &str| String::from_utf8_lossy(&fs::read(format!("/proc/{id}/{file}")).unwrap()).into_owned();
        assert_none(&format!("{whose}'s command line"), &read("cmdline"));
        assert_none(&format!("{whose}'s environment"), &read("environ"));
    }
    daemon.stop().await;

    // `run` has looked through what these say.
    for arguments in [&["status"][..], &["status", "--json"], &["doctor"], &["predict", "--wallet", &request.input]] {
        nova(arguments).env("NOVA_LOG_LEVEL", "TRACE").run().await;
    }
    keys_that_others_may_read_are_refused(&project, &nova(&["doctor"])).await;
    mistakes_name_the_variable_and_not_the_key(&project).await;
}

/// Keys of endpoints are parts of their URLs, and what an endpoint says may hold its URL.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_what_an_endpoint_says_of_its_key_is_shown_nowhere() {
    const ECHO: &str = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"project rpc-key-77aa02d5 is disabled","data":{"path":"/v2/rpc-key-77aa02d5"}}}"#;
    assert!(ECHO.contains(RPC_KEY));
    let (project, net) = (Project::new(), Net::start().await);
    let proxy = Proxy::start(net.devnet.rpc_url()).await;
    let run = project.nova(&["run"]).envs(net.env()).env("NOVA_RPC_URLS", proxy.url()).env("NOVA_LOG_LEVEL", "TRACE");
    let daemon = run.start().ready().await;
    proxy.rule(|method, _| if method == "eth_sendRawTransaction" { Act::Say(200, ECHO) } else { Act::Pass });
    net.ask(1).await;
    wait_until("a transaction that is refused with the reason", DEFAULT_TIMEOUT, async || {
        let rows = project.rows().await.ok_or("no ledger")?;
        let reasons: Vec<_> = rows.transactions.into_iter().filter_map(|row| row.reason).collect();
        if reasons.iter().any(|reason| reason.contains("project [key] is disabled")) {
            Ok(())
        } else {
            Err(format!("{reasons:?}"))
        }
    })
    .await;
    proxy.rule(|_, _| Act::Say(200, ECHO));
    daemon.wait_for_log("does not work, trying on").await;
    let (status, body) = daemon.readyz().await.unwrap();
    assert_eq!(status, 503);
    assert_none("/readyz", &body.to_string());
    daemon.stop().await;
    project.nova(&["status", "--json"]).succeed().await;
}

/// A password, a keystore and an `.env` with keys, each of which somebody has opened to others.
async fn keys_that_others_may_read_are_refused(project: &Project, doctor: &Nova) {
    for name in ["password", "wallet.json", ".env"] {
        let path = project.path().join(name);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        doctor.clone().fail(&["others than its owner may read", "0640", &format!("`chmod 600 {name}`")]).await;
        close_to_others(project, name);
    }
    write_private(project, "password", "another password");
    doctor.clone().fail(&["✗ wallet key", "wallet.json cannot be opened", "is not the one it was made with"]).await;
}

fn write_private(project: &Project, name: &str, text: &str) {
    fs::write(project.path().join(name), text).unwrap();
    close_to_others(project, name);
}

fn close_to_others(project: &Project, name: &str) {
    fs::set_permissions(project.path().join(name), fs::Permissions::from_mode(0o600)).unwrap();
}

async fn mistakes_name_the_variable_and_not_the_key(project: &Project) {
    fs::remove_file(project.path().join(".env")).unwrap();
    let cases = [
        ("NOVA_CLI_WALLET_PRIVATE_KEY", format!("{PRIVATE_KEY}00")),
        ("NOVA_SPECTRAL_API_KEY", format!("{PLUMBER_KEY} {PLUMBER_KEY}")),
        ("NOVA_RPC_URLS", format!("ftp://arb.example/v2/{RPC_KEY}")),
        ("NOVA_RPC_WS_URL", format!("arb.example/v2/{RPC_KEY}")),
    ];
    let all = cases.iter().fold(project.nova(&["run"]), |nova, (name, value)| nova.env(name, value));
    all.fail(&cases.each_ref().map(|(name, _)| *name)).await;
    for line in [format!("NOVA_SPECTRAL_API_KEY=\"{PLUMBER_KEY}"), format!("NOVA_CLI_WALLET_PRIVATE_KEY {PRIVATE_KEY}")]
    {
        write_private(project, ".env", &line);
        project.nova(&["doctor"]).fail(&[".env"]).await;
    }
    fs::remove_file(project.path().join(".env")).unwrap();
    fs::write(project.path().join("nova.toml"), format!("spectral_api_key = \"{PLUMBER_KEY}\nnetwork =")).unwrap();
    project.nova(&["doctor"]).fail(&["nova.toml"]).await;
}
