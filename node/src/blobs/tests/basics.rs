use std::io::{self, Read};

use teahouse_protocols::content::{CHUNK, ContentKey};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_opened_before_it_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("content");
    let one = tester(&at);
    assert_eq!(one.blobs.status(&[1; 32]).await.unwrap(), Status::Absent);
    assert_eq!(one.blobs.collect(|| Ok::<_, String>([])).await.unwrap(), Collected::default());
    one.blobs.set_relays(Vec::new()).await;
    assert!(!at.exists(), "questions open no store");
    one.blobs.import_bytes(b"tea".to_vec()).await.unwrap();
    assert!(at.exists());
    assert!(!one.blobs.0.net.running().await, "an import needs no network");
    one.blobs.start().await.unwrap();
    assert!(one.blobs.0.net.running().await);
    one.blobs.close().await;
    assert!(!one.blobs.0.net.running().await);
    let closed = one.blobs.import_bytes(b"tea".to_vec()).await;
    assert!(matches!(closed, Err(BlobsError::Closed)));
    assert!(matches!(one.blobs.start().await, Err(BlobsError::Closed)));
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn the_folder_is_its_owners() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("content");
    let one = tester(&at);
    one.blobs.import_bytes(b"tea".to_vec()).await.unwrap();
    assert_eq!(std::fs::metadata(&at).unwrap().permissions().mode() & 0o777, 0o700);
    one.blobs.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_imported_can_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let one = tester(&dir.path().join("content"));
    for size in [0, 1, 10_000, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK, 1_000_000] {
        let plain = noise(size, size as u64);
        let path = dir.path().join("in");
        std::fs::write(&path, &plain).unwrap();
        let Imported { content, held } = one.blobs.import_file(&path).await.unwrap();
        assert_eq!(content.size, size as u64);
        assert_eq!(held.hash(), &content.hash);
        let sealed = content.sealed_size().unwrap();
        assert_eq!(
            one.blobs.status(&content.hash).await.unwrap(),
            Status::Complete { size: sealed }
        );
        assert_eq!(one.blobs.read_plain(&content, size as u64).await.unwrap(), plain);
        let out = dir.path().join("out");
        one.blobs.open_to_file(&content, &out).await.unwrap();
        assert_eq!(std::fs::read(&out).unwrap(), plain);

        if size > 0 {
            let little = one.blobs.read_plain(&content, size as u64 - 1).await;
            assert!(matches!(little, Err(BlobsError::TooLarge { .. })));
        }
        let mut other = content.clone();
        other.key = ContentKey::from_bytes([9; 32]);
        std::fs::remove_file(&out).unwrap();
        let wrong = one.blobs.open_to_file(&other, &out).await;
        assert!(matches!(wrong, Err(BlobsError::Refused(_))), "{wrong:?}");
        let mut other = content.clone();
        other.size += 1;
        let wrong = one.blobs.read_plain(&other, 1 << 30).await;
        assert!(matches!(wrong, Err(BlobsError::Refused(_))), "{wrong:?}");
        assert_eq!(files(dir.path()), 2, "nothing half written stays");
    }
    let same = one.blobs.import_bytes(b"tea".to_vec()).await.unwrap();
    let again = one.blobs.import_bytes(b"tea".to_vec()).await.unwrap();
    assert_ne!(same.content.hash, again.content.hash, "equal contents don't look equal");
    one.blobs.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn content_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (small, large) = (noise(500, 1), noise(3_000_000, 2));
    let one = tester(dir.path());
    let a = one.blobs.import_bytes(small.clone()).await.unwrap().content;
    let b = one.blobs.import_bytes(large.clone()).await.unwrap().content;
    one.blobs.close().await;
    let two = tester(dir.path());
    assert_eq!(two.blobs.read_plain(&a, 1 << 30).await.unwrap(), small);
    assert_eq!(two.blobs.read_plain(&b, 1 << 30).await.unwrap(), large);
    two.blobs.close().await;
}

/// Gives some bytes, then fails.
struct Failing(u64);

impl Read for Failing {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.0 == 0 {
            return Err(io::Error::other("the card was pulled out"));
        }
        let len = buf.len().min(self.0 as usize);
        buf[..len].fill(7);
        self.0 -= len as u64;
        Ok(len)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_fails_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("content");
    let (mut config, _) = config(&at, key());
    config.limits.content = 2_000_000;
    let blobs = Blobs::open(config);
    let kept = blobs.import_bytes(noise(100_000, 1)).await.unwrap();
    let list = |blobs: Blobs| async move { blobs.0.store.opened().await.unwrap().list().await };

    for bytes in [0, 100, 1_000_000] {
        let failed = blobs.0.store.import(Failing(bytes), u64::MAX).await;
        assert!(matches!(failed, Err(BlobsError::File { .. })), "{failed:?}");
    }
    let long = blobs.import_bytes(vec![0; 2_000_001]).await;
    assert!(matches!(long, Err(BlobsError::TooLarge { max: 2_000_000 })));
    let none = blobs.import_file(&dir.path().join("nothing")).await;
    assert!(matches!(none, Err(BlobsError::File { .. })));
    let folder = blobs.import_file(dir.path()).await;
    assert!(matches!(folder, Err(BlobsError::File { .. })));
    assert_eq!(files(&at.join("temp")), 0);
    assert_eq!(list(blobs.clone()).await.unwrap().len(), 1);

    // A disk that takes nothing: where temporary files belong is no folder.
    std::fs::remove_dir(at.join("temp")).unwrap();
    std::fs::write(at.join("temp"), b"").unwrap();
    let failed = blobs.import_bytes(noise(100_000, 2)).await;
    assert!(matches!(failed, Err(BlobsError::Store(_))), "{failed:?}");
    std::fs::remove_file(at.join("temp")).unwrap();
    std::fs::create_dir(at.join("temp")).unwrap();
    blobs.import_bytes(noise(100_000, 3)).await.unwrap();
    assert_eq!(blobs.read_plain(&kept.content, 1 << 20).await.unwrap(), noise(100_000, 1));
    blobs.close().await;
}

#[test]
fn a_full_disk_is_told_as_such() {
    #[derive(Debug, thiserror::Error)]
    #[error("deep inside")]
    struct Deep(#[source] io::Error);
    let full = Deep(io::Error::from(io::ErrorKind::StorageFull));
    assert!(matches!(store::storage_error(&full), BlobsError::Full));
    let other = Deep(io::Error::from(io::ErrorKind::NotFound));
    assert!(matches!(store::storage_error(&other), BlobsError::Store(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_failed_is_opened_anew() {
    let dir = tempfile::tempdir().unwrap();
    let one = tester(dir.path());
    let kept = one.blobs.import_bytes(noise(100_000, 1)).await.unwrap();
    // As it ends when it can't write its catalogue.
    one.blobs.0.store.opened().await.unwrap().store.shutdown().await.unwrap();
    assert!(one.blobs.import_bytes(b"tea".to_vec()).await.is_err());
    one.blobs.import_bytes(b"tea".to_vec()).await.unwrap();
    assert_eq!(one.blobs.read_plain(&kept.content, 1 << 20).await.unwrap(), noise(100_000, 1));
    one.blobs.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_process_left_behind_goes() {
    let dir = tempfile::tempdir().unwrap();
    let one = tester(dir.path());
    one.blobs.import_bytes(b"tea".to_vec()).await.unwrap();
    one.blobs.close().await;
    std::fs::write(dir.path().join("temp/left.temp"), b"half").unwrap();
    let two = tester(dir.path());
    two.blobs.import_bytes(b"tea".to_vec()).await.unwrap();
    assert_eq!(files(&dir.path().join("temp")), 0);
    two.blobs.close().await;
}
