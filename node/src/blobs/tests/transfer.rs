use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use futures::StreamExt;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn fifty_megabytes_arrive() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (tester(&dir.path().join("1")), tester(&dir.path().join("2")));
    let plain = noise(50_000_000, 1);
    let Imported { content, .. } = one.offer(plain.clone()).await;
    let size = content.sealed_size().unwrap();
    let addr = one.blobs.addr().await.unwrap();
    let fetch = two.blobs.fetch(content.hash, size, vec![addr]).unwrap();
    let mut progress = fetch.progress();
    let watched = tokio::spawn(async move {
        let (mut last, mut seen, mut end) = (0, 0, Progress::Waiting);
        while let Some(p) = progress.next().await {
            if let Progress::Bytes { have, size: of } = p {
                assert!(have >= last && of == size);
                (last, seen) = (have, seen + 1);
            }
            end = p;
        }
        (seen, end)
    });
    let held = fetch.finish().await.unwrap();
    assert_eq!(held.hash(), &content.hash);
    let (seen, end) = watched.await.unwrap();
    assert!(seen > 10, "{seen}");
    assert_eq!(end, Progress::Done);
    assert_eq!(two.blobs.status(&content.hash).await.unwrap(), Status::Complete { size });
    assert_eq!(two.blobs.read_plain(&content, 1 << 30).await.unwrap(), plain);

    // Who has it gives it on, and what is here is not asked for.
    two.served.lock().unwrap().insert(content.hash);
    let three = tester(&dir.path().join("3"));
    three.get(&content, &[&two]).await.unwrap();
    one.blobs.close().await;
    two.blobs.close().await;
    three.blobs.fetch(content.hash, size, vec![]).unwrap().finish().await.unwrap();
    three.blobs.close().await;
}

const CHILD: &str = "TEAHOUSE_TEST_BLOBS_CHILD";

fn unhex(s: &str) -> [u8; 32] {
    data_encoding::HEXLOWER.decode(s.as_bytes()).unwrap().try_into().unwrap()
}

fn hex(b: &[u8; 32]) -> String {
    data_encoding::HEXLOWER.encode(b)
}

/// Says something to the process that waits for it.
fn say(line: impl std::fmt::Display) {
    println!("{line}");
    std::io::stdout().flush().unwrap();
}

/// The other process of the tests below: fetches, and says how far it is, until it is killed
/// or done. Told: folder, secret, hash, provider's device and address, size.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "only as a child of the tests below"]
async fn child_fetches() {
    let Ok(told) = std::env::var(CHILD) else { return };
    let told: Vec<&str> = told.split('|').collect();
    let (config, _) = config(Path::new(told[0]), unhex(told[1]));
    let blobs = Blobs::open(config);
    let addrs = vec![told[4].parse().unwrap()];
    let provider = Provider { device: unhex(told[3]), addrs, relay: None };
    let fetch = blobs.fetch(unhex(told[2]), told[5].parse().unwrap(), vec![provider]).unwrap();
    let mut progress = fetch.progress();
    while let Some(p) = progress.next().await {
        if let Progress::Bytes { have, .. } = p {
            say(format_args!("have {have}"));
        }
    }
    fetch.finish().await.unwrap();
    blobs.close().await;
}

/// The sender as a process: imports [`SENT`] bytes if the folder is empty, says where it is,
/// and serves until it is killed. Told: folder, secret.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "only as a child of the test below"]
async fn child_serves() {
    let Ok(told) = std::env::var(CHILD) else { return };
    let (dir, secret) = told.split_once('|').unwrap();
    let (mut config, _) = config(Path::new(dir), unhex(secret));
    config.serves = Arc::new(|_| true);
    let blobs = Blobs::open(config);
    let mut made = String::new();
    if !Path::new(dir).exists() {
        let content = blobs.import_bytes(noise(SENT, 4)).await.unwrap().content;
        made = format!(" {} {}", hex(&content.hash), hex(&content.key.to_bytes()));
    }
    let addr = blobs.addr().await.unwrap();
    say(format_args!("at {} {}{made}", addr.addrs[0], hex(&addr.device)));
    std::future::pending::<()>().await;
}

/// Starts one of the above, and gives what it says.
fn child(name: &str, told: String) -> (Child, impl Iterator<Item = String> + use<>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([&format!("blobs::tests::transfer::{name}"), "--exact", "--ignored", "--nocapture"])
        .env(CHILD, told)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    (child, out.lines().map(Result::unwrap))
}

/// The words after `what` in the first line that says it.
fn said(lines: &mut impl Iterator<Item = String>, what: &str) -> Option<Vec<String>> {
    lines.find_map(|line| {
        // The test's own name may stand before it.
        let (_, rest) = line.rsplit_once(what)?;
        Some(rest.split_whitespace().map(str::to_owned).collect())
    })
}

fn have(lines: &mut impl Iterator<Item = String>) -> Option<u64> {
    said(lines, "have ")?[0].parse().ok()
}

const SENT: usize = 50_000_000;

#[test]
fn a_transfer_goes_on_after_both_ends_were_killed() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("1"), dir.path().join("2"));
    let (ours, theirs) = (hex(&key()), hex(&key()));
    let serve = || {
        let (child, mut lines) = child("child_serves", format!("{}|{theirs}", from.display()));
        (child, said(&mut lines, "at ").unwrap())
    };
    let (mut sender, at) = serve();
    let [_, _, hash, content_key] = &at[..] else { panic!("{at:?}") };
    let content = ContentRef {
        hash: unhex(hash),
        key: teahouse_protocols::content::ContentKey::from_bytes(unhex(content_key)),
        size: SENT as u64,
    };
    let size = content.sealed_size().unwrap();
    let fetch = |at: &[String]| {
        let told = format!("{}|{ours}|{hash}|{}|{}|{size}", to.display(), at[1], at[0]);
        child("child_fetches", told)
    };
    let (mut fetcher, mut lines) = fetch(&at);
    let mut before = 0;
    while before <= 15_000_000 {
        before = have(&mut lines).expect("it was too fast to be killed on the way");
    }
    for killed in [&mut sender, &mut fetcher] {
        killed.kill().unwrap();
        assert!(!killed.wait().unwrap().success());
    }

    let (mut sender, again) = serve();
    assert_eq!(again.len(), 2, "nothing is imported again");
    let (mut fetcher, mut lines) = fetch(&again);
    let first = have(&mut lines).expect("the rest");
    // What had come in the last moments need not have been written.
    assert!(first > 1_000_000, "{first} bytes: it began anew after {before}");
    while have(&mut lines).is_some() {}
    assert!(fetcher.wait().unwrap().success());
    sender.kill().unwrap();
    sender.wait().unwrap();

    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let (config, _) = config(&to, unhex(&ours));
        let two = Blobs::open(config);
        assert_eq!(two.status(&content.hash).await.unwrap(), Status::Complete { size });
        assert!(two.read_plain(&content, 1 << 30).await.unwrap() == noise(SENT, 4));
        two.close().await;
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_download_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let one = tester(&dir.path().join("1"));
    let plain = noise(50_000_000, 2);
    let Imported { content, .. } = one.offer(plain.clone()).await;
    let size = content.sealed_size().unwrap();
    let addr = one.blobs.addr().await.unwrap();
    let (to, secret) = (dir.path().join("2"), key());
    let told = format!(
        "{}|{}|{}|{}|{}|{size}",
        to.display(),
        hex(&secret),
        hex(&content.hash),
        hex(&addr.device),
        addr.addrs[0],
    );
    let (mut child, mut lines) = child("child_fetches", told);
    let killed = tokio::task::spawn_blocking(move || {
        while have(&mut lines).is_some_and(|have| have <= 15_000_000) {}
        child.kill().unwrap();
        child.wait().unwrap()
    });
    assert!(!killed.await.unwrap().success());

    let (config, _) = config(&to, secret);
    let two = Blobs::open(config);
    let status = two.status(&content.hash).await.unwrap();
    let Status::Partial { have, .. } = status else { panic!("{status:?}") };
    assert!(have > 1_000_000, "{have}");
    let early = two.read_plain(&content, 1 << 30).await;
    assert!(matches!(early, Err(BlobsError::Partial { .. })));
    let fetch = two.fetch(content.hash, size, vec![addr]).unwrap();
    let mut progress = fetch.progress();
    let first = tokio::spawn(async move {
        while let Some(p) = progress.next().await {
            if let Progress::Bytes { have, .. } = p {
                return have;
            }
        }
        0
    });
    fetch.finish().await.unwrap();
    let first = first.await.unwrap();
    assert!(first >= have, "{first} bytes: it began anew instead of at {have}");
    assert_eq!(two.read_plain(&content, 1 << 30).await.unwrap(), plain);
    two.close().await;
    one.blobs.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_download_is_kept_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (tester(&dir.path().join("1")), tester(&dir.path().join("2")));
    let Imported { content, .. } = one.offer(noise(30_000_000, 3)).await;
    let size = content.sealed_size().unwrap();
    let addr = one.blobs.addr().await.unwrap();
    let fetch = two.blobs.fetch(content.hash, size, vec![addr]).unwrap();
    let mut progress = fetch.progress();
    while let Some(p) = progress.next().await {
        if matches!(p, Progress::Bytes { have, .. } if have > 2_000_000) {
            break;
        }
    }
    drop(fetch);
    let end = progress.filter(|p| std::future::ready(*p == Progress::Ended)).next().await;
    assert_eq!(end, Some(Progress::Ended));
    let status = two.blobs.status(&content.hash).await.unwrap();
    assert!(matches!(status, Status::Partial { have, .. } if have > 1_000_000), "{status:?}");
    two.get(&content, &[&one]).await.unwrap();
    two.blobs.close().await;
    one.blobs.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_providers_are_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (tester(&dir.path().join("1")), tester(&dir.path().join("2")));
    let Imported { content, .. } = one.offer(noise(200_000, 1)).await;
    let size = content.sealed_size().unwrap();
    let good = one.blobs.addr().await.unwrap();
    let (without, _) = bare().await;
    let at = |addrs: Vec<SocketAddr>, device| Provider { device, addrs, relay: None };
    let dead = at(vec!["127.0.0.1:9".parse().unwrap()], *without.id().as_bytes());
    let impostor = at(good.addrs.clone(), *iroh::SecretKey::generate().public().as_bytes());
    let mut weak = dead.clone();
    weak.device = [0xff; 32];
    let nowhere = at(vec![], *iroh::SecretKey::generate().public().as_bytes());
    let bad = vec![dead, impostor, weak, nowhere];

    let none = two.blobs.fetch(content.hash, size, bad.clone()).unwrap().finish().await;
    let Err(BlobsError::Failed(attempts)) = none else { panic!("{none:?}") };
    assert_eq!(attempts.len(), 4);
    let nobody = two.blobs.fetch(content.hash, size, vec![]).unwrap().finish().await;
    assert!(matches!(nobody, Err(BlobsError::NobodyKnown)));

    let all = [bad, vec![at(vec![], good.device)]].concat();
    two.blobs.learn(good);
    two.blobs.fetch(content.hash, size, all).unwrap().finish().await.unwrap();
    two.blobs.close().await;
    one.blobs.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn downloads_queue_and_the_queue_ends() {
    let dir = tempfile::tempdir().unwrap();
    let one = tester(&dir.path().join("1"));
    let (mut config, _) = config(&dir.path().join("2"), key());
    (config.limits.downloads, config.limits.queue) = (2, 10);
    let two = Blobs::open(config);
    let mut all = Vec::new();
    for n in 0..12 {
        all.push(one.offer(noise(100_000, n)).await.content);
    }
    let addr = one.blobs.addr().await.unwrap();
    let fetch = |c: &ContentRef| two.fetch(c.hash, c.sealed_size().unwrap(), vec![addr.clone()]);
    let running: Vec<Fetch> = all.iter().map(|c| fetch(c).unwrap()).collect();
    assert!(matches!(fetch(&all[0]), Err(BlobsError::Busy(10))));
    for fetch in running {
        fetch.finish().await.unwrap();
    }
    // The same one several times at once.
    let same: Vec<Fetch> = (0..6).map(|_| fetch(&all[0]).unwrap()).collect();
    for fetch in same {
        fetch.finish().await.unwrap();
    }
    let large = two.fetch([1; 32], u64::MAX, vec![]);
    assert!(matches!(large, Err(BlobsError::TooLarge { .. })));
    let none_has = two.fetch([1; 32], 15, vec![]);
    assert!(matches!(none_has, Err(BlobsError::TooLarge { .. })));
    two.close().await;
    assert!(matches!(fetch(&all[0]), Err(BlobsError::Closed)));
    one.blobs.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_has_one_endpoint_and_a_dead_one_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let secret = key();
    let (one, served) = {
        let (config, served) = config(&dir.path().join("1"), secret);
        (Blobs::open(config), served)
    };
    let again = Blobs::open(config(&dir.path().join("2"), secret).0);
    one.start().await.unwrap();
    assert!(matches!(again.start().await, Err(BlobsError::KeyInUse)));

    // Closed by itself: another takes its place without being asked.
    let before = one.addr().await.unwrap();
    one.0.net.endpoint().await.unwrap().close().await;
    let content = one.import_bytes(noise(50_000, 1)).await.unwrap().content;
    served.lock().unwrap().insert(content.hash);
    let after = tokio::time::timeout(Duration::from_secs(10), async {
        loop {
            let addr = one.addr().await.unwrap();
            if addr != before {
                return addr;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let after = after.await.unwrap();
    let two = tester(&dir.path().join("3"));
    let size = content.sealed_size().unwrap();
    two.blobs.fetch(content.hash, size, vec![after]).unwrap().finish().await.unwrap();

    one.close().await;
    again.start().await.unwrap();
    again.close().await;
    two.blobs.close().await;
}
