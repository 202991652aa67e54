//! Nodes without a network: commands, changes, watches, faults of the disk.

use std::time::{Duration, Instant};

use teahouse_core::command::{Command, Devices, Refusal, Reply};
use teahouse_core::query;
use teahouse_core::store::Store;
use teahouse_core::store::backends::SimDisk;

use super::Node;
use crate::handle::{Health, NodeError};
use crate::watch::{View, watch};

fn create() -> Command {
    let (name, device_name) = ("Ada".into(), "laptop".into());
    Command::Devices(Devices::Create { name, device_name })
}

fn rename(name: &str) -> Command {
    Command::Devices(Devices::Rename { name: name.into() })
}

#[test]
fn commands_are_answered_when_durable_and_survive() {
    let disk = SimDisk::new();
    let node = Node::with_store(Store::on_disk(&disk).unwrap(), None).unwrap();
    let device = node.handle().device();
    let Reply::Created { account, words } = node.handle().submit_blocking(create()).unwrap() else {
        panic!()
    };
    assert_eq!(words.split_whitespace().count(), 24);
    let again = node.handle().submit_blocking(create());
    assert!(matches!(again, Err(NodeError::Refused(Refusal::AccountExists))));
    let handle = node.handle().clone();
    node.shutdown();
    assert!(matches!(handle.submit_blocking(create()), Err(NodeError::Stopped)));
    assert_eq!(handle.status().health, Health::Stopped);
    drop(handle);

    let node = Node::with_store(Store::on_disk(&disk).unwrap(), None).unwrap();
    let identity = node.handle().query(|s| query::identity(s)).unwrap();
    assert_eq!((identity.account, identity.device), (Some(account), device));
    assert_eq!(node.handle().status().account, Some(account));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_tells_what_changed_and_ends_with_the_node() {
    let node = Node::with_store(Store::in_memory().unwrap(), None).unwrap();
    let mut names =
        watch(node.handle(), |s| Ok(query::identity(s)?.name), |c| View::Identity.depends(c));
    assert_eq!(names.next().await.unwrap().unwrap(), "");
    node.handle().submit(create()).await.unwrap();
    assert_eq!(names.next().await.unwrap().unwrap(), "Ada");
    node.handle().submit(rename("Ada L.")).await.unwrap();
    assert_eq!(names.next().await.unwrap().unwrap(), "Ada L.");
    // The same name again is no news.
    node.handle().submit(rename("Ada L.")).await.unwrap();
    let silence = tokio::time::timeout(Duration::from_millis(100), names.next()).await;
    assert!(silence.is_err(), "{silence:?}");
    tokio::task::spawn_blocking(|| node.shutdown()).await.unwrap();
    assert!(names.next().await.is_none());
}

#[test]
fn a_full_disk_is_told_and_outlived() {
    let disk = SimDisk::new();
    let node = Node::with_store(Store::on_disk(&disk).unwrap(), None).unwrap();
    let handle = node.handle();
    handle.submit_blocking(create()).unwrap();

    disk.set_room(Some(0));
    let long = "x".repeat(64);
    for _ in 0..2 {
        let refused = handle.submit_blocking(rename(&long));
        let Err(NodeError::Refused(Refusal::NotStored { .. })) = refused else {
            panic!("{refused:?}")
        };
    }
    assert!(matches!(handle.status().health, Health::NotStoring { .. }));

    disk.set_room(None);
    let until = Instant::now() + Duration::from_secs(10);
    while handle.submit_blocking(rename("Ada Lovelace")).is_err() {
        assert!(Instant::now() < until, "{:?}", handle.status().health);
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(handle.status().health, Health::Good);
    assert_eq!(handle.query(|s| query::identity(s)).unwrap().name, "Ada Lovelace");
}
