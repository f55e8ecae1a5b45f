//! Scenario 36 and 45: no file holds a secret, and everything comes back as it was.

use resurge_flow::{Ctx, FlowError, FlowResult, RunState, StepError, StepErrorKind};
use resurge_seal::Sealer;
use resurge_store::{Codec, KeyRange, Namespace, ScanOptions, Store};
use resurge_testkit::evidence;
use sha2::{Digest, Sha256};

use crate::support::{
    CANARY, NUMBER, Notes, Secret, contains, expected, files, flows, login, open, register, sealer,
    secret,
};

#[tokio::test]
async fn scenario_36_no_file_holds_what_is_sensitive() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let notes = Notes::default();
    {
        // It fails, with a secret in the text of its error.
        let store = open(&path).await;
        let flows = flows(&store, sealer(1));
        let logins = register(&flows, &notes, true);
        flows.start().await.unwrap();
        let run = logins.start("run-1", login()).await.unwrap();
        run.signal("code", &secret()).await.unwrap();
        let failed = run.result().await.unwrap_err();
        assert!(failed.to_string().contains(&format!("bad {CANARY}-db")), "{failed}");
        flows.shutdown().await;
        store.close().await.unwrap();
    }
    {
        // The text is there for whoever has the key, and for nobody else.
        let store = open(&path).await;
        let blind = flows(&store, Sealer::plain());
        let info = blind.info("run-1").await.unwrap();
        assert_eq!(info.error.unwrap().message, "<sealed>");
        let flows = flows(&store, sealer(1));
        let error = flows.info("run-1").await.unwrap().error.unwrap();
        assert_eq!(error.message, format!("bad {CANARY}-db"));
        assert_eq!(error.root_cause(), format!("refused {CANARY}-cause"));
        assert_eq!(error.code.as_deref(), Some(&*format!("{CANARY}-code")));
        assert_eq!((info.state, error.kind), (RunState::Failed, StepErrorKind::Failed));

        // Another process goes on where it failed, with everything as it was, types too.
        let logins = register(&flows, &notes, false);
        flows.start().await.unwrap();
        let run = logins.run("run-1");
        assert!(matches!(run.result().await, Err(FlowError::Failed { .. })));
        assert_eq!(run.resume().await.unwrap().result().await.unwrap(), expected());
        // The same start again is the same run; with another password it is another one.
        let again = logins.start("run-1", login()).await.unwrap();
        assert_eq!(again.result().await.unwrap(), expected());
        let mut other = login();
        other.password.push('!');
        let refused = logins.start("run-1", other).await.unwrap_err();
        assert!(matches!(refused, FlowError::AlreadyExists { .. }), "{refused}");
        flows.shutdown().await;
        store.close().await.unwrap();
    }
    assert_eq!(*notes.seen.lock(), [expected(), expected()]);
    assert_eq!((notes.count("api_token"), notes.count("connect")), (1, 2));

    let found = files(&path);
    // The search finds what is there in clear.
    assert!(found.iter().any(|(_, content)| contains(content, b"visible-user")));
    for (file, content) in &found {
        assert!(!contains(content, CANARY.as_bytes()), "{}", file.display());
        assert!(!contains(content, &NUMBER.to_be_bytes()), "{}", file.display());
    }
    let bytes: usize = found.iter().map(|(_, content)| content.len()).sum();
    evidence("flow-canary", &format!("0 finds in {} files, {bytes} bytes", found.len()));
}

/// Whoever reads the disk cannot find a short secret by hashing guesses.
#[tokio::test]
async fn the_hash_of_a_sensitive_input_is_not_stored() {
    for (sealer, plain) in [(Sealer::plain(), true), (sealer(1), false)] {
        let store = Store::memory();
        let flows = flows(&store, sealer);
        let logins = register(&flows, &Notes::default(), false);
        let hash: [u8; 32] = Sha256::digest(Codec::Cbor.encode(&login()).unwrap()).into();
        let hash = Codec::Cbor.encode(&hash).unwrap();
        logins.start("run-1", login()).await.unwrap();
        let live = Namespace::new("resurge/flow/live").unwrap().key("run-1").unwrap();
        let stored = store.get(&live).await.unwrap().unwrap();
        assert_eq!(contains(&stored, &hash), plain);
        // The same start is recognised all the same.
        logins.start("run-1", login()).await.unwrap();
        flows.shutdown().await;
    }
}

/// A child's result and error come to its parent through its inbox and into its journal.
#[tokio::test]
async fn a_child_s_end_is_sealed_all_the_way() {
    async fn child(ctx: Ctx, fails: bool) -> FlowResult<Secret> {
        let password = format!("{CANARY}-child");
        ctx.step("work", || async {
            if fails { Err(StepError::permanent(format!("bad {password}"))) } else { Ok(()) }
        })
        .await?;
        Ok(Secret { password })
    }
    let store = Store::memory();
    let flows = flows(&store, sealer(1));
    let children = flows.register("child", child).unwrap();
    let parent = flows.register("parent", move |ctx: Ctx, fails: bool| {
        let children = children.clone();
        async move {
            let got = ctx.child("child", &children, &fails).await?;
            ctx.signal::<()>("go").await?;
            Ok(got)
        }
    });
    let parent = parent.unwrap();
    flows.start().await.unwrap();
    let good = parent.start("good", false).await.unwrap();
    let bad = parent.start("bad", true).await.unwrap();
    let failed = bad.result().await.unwrap_err();
    assert!(failed.to_string().ends_with(&format!("bad {CANARY}-child")), "{failed}");
    good.signal("go", &()).await.unwrap();
    assert_eq!(good.result().await.unwrap().password, format!("{CANARY}-child"));
    flows.shutdown().await;

    let (mut looked, mut rest) = (0, Some(KeyRange::everything()));
    while let Some(range) = rest {
        let page = store.scan(range, ScanOptions::new()).await.unwrap();
        for entry in page.entries {
            looked += 1;
            assert!(!contains(&entry.value, CANARY.as_bytes()), "{}", entry.key);
        }
        rest = page.next;
    }
    assert!(looked > 8, "{looked}");
}
