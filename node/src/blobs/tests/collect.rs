use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::*;

type Live = Arc<Mutex<BTreeSet<ContentHash>>>;

async fn collect(blobs: &Blobs, live: &Live) -> Collected {
    let live = Arc::clone(live);
    blobs.collect(move || Ok::<_, String>(live.lock().unwrap().clone())).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nothing_references_goes_and_the_folder_shrinks() {
    let dir = tempfile::tempdir().unwrap();
    let one = tester(dir.path());
    let live = Live::default();
    let keep = one.blobs.import_bytes(noise(3_000_000, 1)).await.unwrap();
    let small = one.blobs.import_bytes(noise(500, 2)).await.unwrap();
    let goes = one.blobs.import_bytes(noise(5_000_000, 3)).await.unwrap();
    assert_eq!(collect(&one.blobs, &live).await, Collected { removed: 0, left: 3 }, "all held");
    live.lock().unwrap().extend([keep.content.hash, small.content.hash]);
    let content = |imported: Imported| imported.content;
    let (keep, small, goes) = (content(keep), content(small), content(goes));
    let before = usage(dir.path());
    assert_eq!(collect(&one.blobs, &live).await, Collected { removed: 1, left: 2 });
    assert!(usage(dir.path()) + 4_900_000 < before);
    assert_eq!(one.blobs.status(&goes.hash).await.unwrap(), Status::Absent);
    assert!(matches!(one.blobs.read_plain(&goes, 1 << 30).await, Err(BlobsError::Absent)));
    assert_eq!(one.blobs.read_plain(&keep, 1 << 30).await.unwrap(), noise(3_000_000, 1));
    assert_eq!(one.blobs.read_plain(&small, 1 << 30).await.unwrap(), noise(500, 2));

    // Whoever can't say what is referenced has nothing removed.
    live.lock().unwrap().clear();
    let failed = one.blobs.collect(|| Err::<Vec<ContentHash>, _>("no database")).await;
    assert!(matches!(failed, Err(BlobsError::References(_))));
    assert_ne!(one.blobs.status(&keep.hash).await.unwrap(), Status::Absent);
    assert_eq!(collect(&one.blobs, &live).await.left, 0);
    assert_eq!(files(&dir.path().join("data")), 0);
    one.blobs.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_just_released_stays_a_while() {
    let dir = tempfile::tempdir().unwrap();
    let (mut config, _) = config(dir.path(), key());
    config.limits.grace = Duration::from_hours(1);
    let blobs = Blobs::open(config);
    let content = blobs.import_bytes(noise(100_000, 1)).await.unwrap().content;
    assert_eq!(collect(&blobs, &Live::default()).await, Collected { removed: 0, left: 1 });
    blobs.close().await;
    // Grace is of this process: what nobody referenced before it ended, nobody will.
    let two = tester(dir.path());
    assert_ne!(two.blobs.status(&content.hash).await.unwrap(), Status::Absent);
    assert_eq!(collect(&two.blobs, &Live::default()).await.removed, 1);
    two.blobs.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn collections_go_on_after_a_failure() {
    let dir = tempfile::tempdir().unwrap();
    let one = tester(dir.path());
    let content = one.blobs.import_bytes(noise(100_000, 1)).await.unwrap().content;
    one.blobs.0.store.opened().await.unwrap().store.shutdown().await.unwrap();
    let live = Live::default();
    live.lock().unwrap().insert(content.hash);
    let failed = one.blobs.collect(|| Ok::<_, String>([content.hash])).await;
    assert!(failed.is_err(), "{failed:?}");
    assert_eq!(collect(&one.blobs, &live).await, Collected { removed: 0, left: 1 });
    live.lock().unwrap().clear();
    let all = Arc::clone(&live);
    one.blobs.keep_clean(Duration::from_millis(20), move || {
        Ok::<_, String>(all.lock().unwrap().clone())
    });
    while one.blobs.status(&content.hash).await.unwrap() != Status::Absent {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    one.blobs.close().await;
}

/// What one of the workers of the test below does next.
#[derive(Debug, Clone)]
enum Step {
    Import(usize),
    Fetch(usize),
    Forget(usize),
    Again(usize),
    Collect,
}

fn step() -> impl Strategy<Value = Step> {
    let size = prop_oneof![1..2_000_usize, 30_000..400_000_usize];
    prop_oneof![
        4 => size.prop_map(Step::Import),
        4 => (0..8_usize).prop_map(Step::Fetch),
        2 => any::<usize>().prop_map(Step::Forget),
        2 => any::<usize>().prop_map(Step::Again),
        3 => Just(Step::Collect),
    ]
}

/// Workers import, fetch, forget, reference again what is here, and collect, all at once.
/// Whatever is referenced can be read, always; what isn't is gone in the end.
#[test]
fn nothing_referenced_is_ever_lost() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let config = ProptestConfig { cases: 6, max_shrink_iters: 0, ..ProptestConfig::default() };
    let workers = prop::collection::vec(prop::collection::vec(step(), 4..16), 3..5);
    let result = TestRunner::new(config).run(&workers, |workers| {
        runtime.block_on(work(workers));
        Ok(())
    });
    result.unwrap();
}

async fn work(workers: Vec<Vec<Step>>) {
    let dir = tempfile::tempdir().unwrap();
    let (source, one) = (tester(&dir.path().join("1")), tester(&dir.path().join("2")));
    let mut offered = Vec::new();
    for n in 0..8 {
        offered.push(source.offer(noise(20_000 + 40_000 * n, n as u64)).await.content);
    }
    let addr = source.blobs.addr().await.unwrap();
    let (live, all) = (Live::default(), Arc::new(Mutex::new(Vec::<ContentRef>::new())));
    let mut tasks = Vec::new();
    for steps in workers {
        let (live, all) = (Arc::clone(&live), Arc::clone(&all));
        let (offered, addr, blobs) = (offered.clone(), addr.clone(), one.blobs.clone());
        tasks.push(tokio::spawn(async move {
            for step in steps {
                // As a message does: it is referenced in one step while it is held.
                let refer = |content: &ContentRef, held: Held| {
                    live.lock().unwrap().insert(content.hash);
                    all.lock().unwrap().push(content.clone());
                    drop(held);
                };
                match step {
                    Step::Import(size) => {
                        let Imported { content, held } =
                            blobs.import_bytes(noise(size, 5)).await.unwrap();
                        refer(&content, held);
                    }
                    Step::Fetch(n) => {
                        let (content, from) = (&offered[n], vec![addr.clone()]);
                        let size = content.sealed_size().unwrap();
                        let fetch = blobs.fetch(content.hash, size, from).unwrap();
                        refer(content, fetch.finish().await.unwrap());
                    }
                    Step::Forget(n) => {
                        let mut live = live.lock().unwrap();
                        let len = live.len().max(1);
                        let hash = live.iter().nth(n % len).copied();
                        if let Some(hash) = hash {
                            live.remove(&hash);
                        }
                    }
                    Step::Again(n) => {
                        let content = {
                            let all = all.lock().unwrap();
                            all.get(n % all.len().max(1)).cloned()
                        };
                        let Some(content) = content else { continue };
                        let held = blobs.hold(content.hash).await;
                        let status = blobs.status(&content.hash).await.unwrap();
                        if matches!(status, Status::Complete { .. }) {
                            refer(&content, held);
                        }
                    }
                    Step::Collect => {
                        collect(&blobs, &live).await;
                    }
                }
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    collect(&one.blobs, &live).await;
    let all: Vec<ContentRef> = all.lock().unwrap().clone();
    for content in &all {
        let referenced = live.lock().unwrap().contains(&content.hash);
        let read = one.blobs.read_plain(content, 1 << 30).await;
        assert_eq!(read.is_ok(), referenced, "{read:?}");
    }
    let left = live.lock().unwrap().len() as u64;
    assert_eq!(collect(&one.blobs, &live).await, Collected { removed: 0, left });
    live.lock().unwrap().clear();
    assert_eq!(collect(&one.blobs, &live).await.left, 0);
    assert_eq!(files(&dir.path().join("2/data")) + files(&dir.path().join("2/temp")), 0);
    one.blobs.close().await;
    source.blobs.close().await;
}
