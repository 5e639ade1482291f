//! Witnesses, proofs and model files in S3: what was promised survives the machine.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use crate::common::net::Net;
use crate::common::project::Project;
use crate::common::secrets::S3_KEY;
use crate::common::{PROOF_TIMEOUT, python};

const BUCKET: &str = "promises";

/// A server that speaks S3. It stops when this is dropped.
struct S3 {
    server: Child,
    url: String,
}

impl S3 {
    async fn start() -> Self {
        let mut server = Command::new(python::program())
            .arg("-I")
            .arg(python::script("s3_server.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut url = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut url).unwrap();
        let s3 = Self { server, url: url.trim().to_owned() };
        assert!(s3.url.starts_with("http://"), "the S3 server did not start: {:?}", s3.url);
        let client = nova_devnet::rpc::http_client().unwrap();
        let made = client.put(format!("{}/{BUCKET}", s3.url)).send().await.unwrap();
        assert!(made.status().is_success(), "{}", made.status());
        s3
    }

    /// What is in the bucket.
    async fn keys(&self) -> Vec<String> {
        let client = nova_devnet::rpc::http_client().unwrap();
        let listed =
            client.get(format!("{}/{BUCKET}?list-type=2", self.url)).send().await.unwrap().text().await.unwrap();
        let keys = listed.split("<Key>").skip(1).map(|rest| rest.split("</Key>").next().unwrap().to_owned());
        keys.collect()
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_promised_can_be_proven_when_only_the_ledger_and_the_bucket_are_left() {
    let (project, net, s3) = (Project::new(), Net::start().await, S3::start().await);
    let env = [
        ("NOVA_STORAGE_PROVIDER", "s3"),
        ("NOVA_S3_BUCKET", BUCKET),
        ("NOVA_S3_PATH_PREFIX", "/modeler/one/"),
        ("AWS_ENDPOINT", &s3.url),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", "modeler"),
        ("AWS_SECRET_ACCESS_KEY", S3_KEY),
    ];
    let env = env.map(|(name, value)| (name, value.to_owned()));
    let nova = |arguments: &[&str]| project.nova(arguments).envs(net.env()).envs(env.clone());
    let daemon = nova(&["run"]).start().ready().await;
    let requests = net.ask(2).await;
    let answers = net.answered_once(&requests).await;
    daemon.stop().await;

    let keys = s3.keys().await;
    for request in &requests {
        for file in ["input.json", "witness.json", "manifest.json"] {
            let folder = format!("modeler/one/witnesses/{:?}/", request.id);
            let there = keys.iter().any(|key| key.starts_with(&folder) && key.ends_with(file));
            assert!(there, "no {folder}…/{file} in {keys:?}");
        }
    }
    let model: Vec<_> = keys.iter().filter(|key| key.starts_with("modeler/one/models/")).collect();
    for file in ["model.onnx", "model_pk.pk", "preprocessing.json", "SHA256SUMS"] {
        assert!(model.iter().any(|key| key.ends_with(file)), "{file} is not in {model:?}");
    }
    assert!(!project.artifacts().join("witnesses").exists(), "nothing is kept twice");

    // Another machine: it has the ledger, and not yet the model.
    fs::remove_dir_all(project.artifacts().join("models")).unwrap();
    project.nova(&["doctor"]).envs(net.env()).envs(env.clone()).succeed().await;
    let id = format!("{:?}", requests[0].id);
    nova(&["prove", &id, "--output", "by_hand.json"]).succeed().await;
    assert!(project.artifacts().join("models").is_dir(), "the model files came back");
    fs::remove_dir_all(project.artifacts().join("models")).unwrap();

    let daemon = nova(&["run"]).start().ready().await;
    let challenge = net.challenge(&[requests[1].id]).await.unwrap();
    let response = net.wait_response(&challenge, PROOF_TIMEOUT).await.unwrap();
    let proof = project.path().join("delivered.json");
    fs::write(&proof, net.download(&response.cid).await.unwrap()).unwrap();
    assert_eq!(python::verify(&proof, &project.model_files()), Ok(answers[&requests[1].id].value));
    daemon.stop().await;

    let elsewhere = nova(&["doctor"]).env("NOVA_S3_BUCKET", "nobodys");
    elsewhere.fail(&["✗ artifacts folder", "nobodys"]).await;
}
