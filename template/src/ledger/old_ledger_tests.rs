//! A ledger of 0.1.0 opens, and its work goes on.

use std::borrow::Cow;

use sqlx::migrate::Migrator;

use super::tests::{ALL, key};
use super::*;

/// Rows as 0.1.0 wrote them, in the tables that it had: an answer that is ready, one on its way, a challenge whose proof is uploaded.
const ROWS: &str = "
    INSERT INTO identity VALUES ('chain id', '31337'), ('genesis hash', '0x9e'), ('Consumption contract', '0xc0'), ('modeler', '0x3d');
    INSERT INTO cursor VALUES ('requests:0xc0', 12), ('challenges:0xa1', 12);
    INSERT INTO block VALUES (11, '0xb11');
    INSERT INTO request (contract, id, input, consumer, block, block_hash, requested, deadline, state, model_value, circuit_value,
            submitted_value, model_digest, witness, answer, seen_at, changed_at)
        VALUES ('0xc0', '$1', '0xwallet', '0xconsumer', 7, '0xb7', 0, 9999999999, 'inferred', 0.5, 0.5, 0.5, 'digest', 'witness', x'01', 1, 1),
               ('0xc0', '$2', '0xwallet', '0xconsumer', 8, '0xb8', 0, 9999999999, 'answering', 0.5, 0.5, 0.5, 'digest', 'witness', x'02', 1, 1);
    INSERT INTO challenge (transaction_hash, log_index, route, asker, payload, block, block_hash, state, cid, delivery, seen_at, changed_at)
        VALUES ('0xaa', 3, 'ipfs', '0xvalidator', '$2', 9, '0xb9', 'uploaded', 'bafy', x'03', 1, 1);
    INSERT INTO tx (key, purpose, contract, request, target, calldata, deadline, state, queued_at, changed_at)
        VALUES ('answer:0xc0:$2', 'answer', '0xc0', '$2', '0xc0', x'02', 9999999999, 'broadcast', 1, 1);
    INSERT INTO attempt (hash, tx, kind, sender, nonce, raw, max_fee_wei, priority_fee_wei, gas, chain_time, signed_at)
        VALUES ('0x01', 'answer:0xc0:$2', 'work', '0xwallet', 0, x'00', '9', '0', 21000, 1, 1);";

/// The ledger that 0.1.0 left, in a folder of its own.
async fn ledger_of_0_1_0() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let options = SqliteConnectOptions::new().filename(folder.path().join("ledger.sqlite")).create_if_missing(true);
    let pool = SqlitePoolOptions::new().connect_with(options).await.unwrap();
    let all = sqlx::migrate!();
    let first = all.migrations[..1].to_vec();
    Migrator { migrations: Cow::Owned(first), ..all }.run(&pool).await.unwrap();
    let rows = ROWS.replace("$1", &key(1).id).replace("$2", &key(2).id);
    sqlx::raw_sql(sqlx::AssertSqlSafe(rows)).execute(&pool).await.unwrap();
    pool.close().await;
    folder
}

#[tokio::test]
async fn a_ledger_of_0_1_0_opens_and_its_work_goes_on() {
    let folder = ledger_of_0_1_0().await;
    let ledger = Ledger::open(folder.path()).await.unwrap();
    let identity = Identity {
        chain_id: 31_337,
        genesis_hash: Some("0x9e".to_owned()),
        competition: "0xc1".to_owned(),
        consumption: "0xc0".to_owned(),
        modeler: "0x3d".to_owned(),
    };
    ledger.identify(&identity).await.unwrap();
    assert_eq!(ledger.cursor("challenges:0xa1").await.unwrap(), Some(12));
    assert_eq!(ledger.in_flight().await.unwrap().len(), 1, "what was on its way is looked for");

    let targets = Targets { modeler_contract: "0xa1".to_owned(), registry: None };
    assert_eq!(ledger.queue_answers(&targets).await.unwrap(), 1);
    // Its row does not say which contract asked: the one that is named now.
    assert_eq!(ledger.queue_deliveries(&targets).await.unwrap(), 1);
    let mut queued: Vec<_> =
        ledger.sendable(9, ALL).await.unwrap().into_iter().map(|tx| (tx.purpose(), tx.target)).collect();
    queued.sort_by_key(|(_, target)| target.clone());
    assert_eq!(queued, [(Purpose::Respond, "0xa1".to_owned()), (Purpose::Answer, "0xc0".to_owned())]);
}
