//! No output of the program shows a key: not the log at its most talkative, not an error, not what others may read of its
//! process. (That no other test's output does, `common` asserts.)

use std::fs;

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use tokio::net::TcpListener;

use crate::common::net::Net;
use crate::common::project::Project;
use crate::common::proxy::{Act, Proxy};
use crate::common::secrets::{PLUMBER_KEY, PRIVATE_KEY, RPC_KEY, assert_none};

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
    // The settings as an operator has them: most in .env, one key in a file of its own.
    let mut env: Vec<_> = net.env().into_iter().filter(|(name, _)| !name.contains("PRIVATE_KEY")).collect();
    env.push(("NOVA_RPC_URLS", format!("{},{}", failing.url(), proxy.url())));
    env.push(("NOVA_PLUMBER_HOST", echoing_plumber().await));
    let lines: String = env.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    fs::write(project.path().join(".env"), lines).unwrap();
    fs::write(project.path().join("wallet.key"), format!("0x{PRIVATE_KEY}\n")).unwrap();
    let nova = |arguments: &[&str]| project.nova(arguments).env("NOVA_CLI_WALLET_PRIVATE_KEY_FILE", "wallet.key");

    let daemon = nova(&["run"]).start().ready().await;
    let request = &net.ask(1).await[0];
    let row = project.request_row(request.id, "tried again", |row| row.reason.is_some()).await;
    assert!(row.reason.unwrap().contains("[key]"), "the answer that echoes the key is quoted");
    proxy.rule(|_, _| Act::Say(500, ""));
    daemon.says("does not work, trying on").await;
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
        nova(arguments).env("NOVA_LOG_LEVEL", "DEBUG").run().await;
    }
    mistakes_name_the_variable_and_not_the_key(&project).await;
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
        fs::write(project.path().join(".env"), line).unwrap();
        project.nova(&["doctor"]).fail(&[".env"]).await;
    }
    fs::remove_file(project.path().join(".env")).unwrap();
    fs::write(project.path().join("nova.toml"), format!("spectral_api_key = \"{PLUMBER_KEY}\nnetwork =")).unwrap();
    project.nova(&["doctor"]).fail(&["nova.toml"]).await;
}
