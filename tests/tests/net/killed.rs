//! SIGKILL at random moments, on disks that forget what was not synced.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use teahouse_core::command::{Chat, Command, MessageId, Reply};
use teahouse_core::view;
use teahouse_node::api::{MAX_MESSAGES, Place};
use teahouse_node::client::{Client, ClientError};
use teahouse_protocols::ids::TopicId;

use crate::process::{Home, Node, befriend, invite, use_relay, within};

/// Kills while all three are about, then while Bob stays away. With his own, and one of Ann
/// and of the relay at the end, they are fifty.
const TOGETHER: u32 = 33;
const APART: u32 = 14;

const RELAY: usize = 0;
const ANN: usize = 1;
const BOB: usize = 2;

/// Between two messages of one sender: some 30 a second.
const PACE: Duration = Duration::from_millis(30);

/// For everything to arrive once the killing has ended.
const QUIET: Duration = Duration::from_mins(2);

/// What a driver knows of its messages.
#[derive(Default)]
struct Sent {
    /// Acknowledged: must be there, once, on both sides.
    acked: BTreeMap<MessageId, String>,
    /// Neither acknowledged nor refused: may be there, once.
    unsure: BTreeSet<String>,
}

/// Sends numbered messages for as long as it may, each once, to a node that comes and goes.
fn drive(dir: &Path, topic: TopicId, prefix: &str, stop: &AtomicBool) -> Sent {
    let mut sent = Sent::default();
    let mut client: Option<Client> = None;
    let mut n = 0_u32;
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(PACE);
        if client.is_none() {
            // The file is read while a process that is killed writes it: whole or not at all.
            client = Client::attach(dir).expect("api.json is whole");
        }
        let Some(node) = &client else { continue };
        n += 1;
        let text = format!("{prefix} {n}");
        let (reply_to, mentions) = (None, Vec::new());
        let send = Chat::Send { topic, text: text.clone(), reply_to, mentions };
        match node.command(&Command::Chat(send)) {
            Ok(Reply::Message { message, .. }) => {
                let before = sent.acked.insert(message, text);
                assert_eq!(before, None, "one id for two messages");
            }
            Ok(other) => panic!("{other:?}"),
            // Starting or stopping; anything else would be a wrong refusal.
            Err(ClientError::Problem(p)) if p.status == 503 => {
                sent.unsure.insert(text);
            }
            Err(ClientError::Problem(p)) => panic!("refused: {p:?}"),
            Err(ClientError::Unreachable(_) | ClientError::Answer(_)) => {
                sent.unsure.insert(text);
                client = None;
            }
        }
    }
    sent
}

/// All messages of a chat.
fn history(client: &Client, topic: TopicId) -> Vec<view::Message> {
    let mut all: Vec<view::Message> = Vec::new();
    let mut before: Option<Place> = None;
    loop {
        let before_this = before.map(|place| format!("&before={place}")).unwrap_or_default();
        let path = format!("/v1/chats/{topic}/messages?limit={MAX_MESSAGES}{before_this}");
        let page: Vec<view::Message> = client.get(&path).expect("a page of messages");
        before = page.first().map(|m| Place(m.time, m.id));
        let last = page.len() < MAX_MESSAGES;
        all.extend(page);
        if last {
            return all;
        }
    }
}

/// Counts the messages of a node that are not what they should become, or panics at what
/// must never be.
fn missing(who: &str, node: &Node, topic: TopicId, own: &Sent, others: &Sent) -> usize {
    let history = history(&node.client(), topic);
    let mut missing = 0;
    for (mine, sent) in [(true, own), (false, others)] {
        let mut seen = BTreeSet::new();
        let mut ids = BTreeSet::new();
        for m in history.iter().filter(|m| m.mine == mine) {
            assert!(ids.insert(m.id), "{who}: an id twice: {m:?}");
            let view::Content::Text(text) = &m.content else {
                // The body may follow its message.
                missing += 1;
                continue;
            };
            assert!(seen.insert(text.clone()), "{who}: doubled: {m:?}");
            match sent.acked.get(&m.id) {
                Some(acked) => assert_eq!(acked, text, "{who}: another text by this id: {m:?}"),
                None => assert!(sent.unsure.contains(text), "{who}: nobody wrote this: {m:?}"),
            }
            missing += usize::from(m.delivery.is_some_and(|d| d.words() != "delivered"));
        }
        for (id, text) in &sent.acked {
            assert!(!mine || ids.contains(id), "{who}: own acknowledged message lost: {text}");
            missing += usize::from(!ids.contains(id));
        }
    }
    let alarms: Vec<view::Alarm> = node.client().get("/v1/alarms").expect("the alarms");
    assert!(alarms.is_empty(), "{who}: {alarms:?}");
    missing
}

/// The same messages on both sides.
fn same(ann: &Node, bob: &Node, topic: TopicId) -> usize {
    let ids = |node: &Node| -> BTreeSet<MessageId> {
        history(&node.client(), topic).into_iter().map(|m| m.id).collect()
    };
    let (ann, bob) = (ids(ann), ids(bob));
    ann.symmetric_difference(&bob).count()
}

fn below(rng: &mut ChaCha20Rng, n: u64) -> u64 {
    rng.next_u64() % n
}

/// The processes, and how often each was killed.
struct Town {
    nodes: [Node; 3],
    killed: [u32; 3],
}

impl Town {
    fn kill(&mut self, who: usize) {
        let node = &mut self.nodes[who];
        if let Some(status) = node.ended() {
            panic!("it ended by itself before it was killed: {status}; see {}", node.log.display());
        }
        node.kill();
        self.killed[who] += 1;
    }

    /// Some time later kills one of the first `n`, and starts it again.
    fn kill_one_of(&mut self, n: usize, rng: &mut ChaCha20Rng) {
        // Sometimes while the victim of last time is still starting.
        thread::sleep(Duration::from_millis(below(rng, 1200)));
        let victim = below(rng, n as u64) as usize;
        self.kill(victim);
        let down = if below(rng, 4) == 0 { 500 + below(rng, 1500) } else { below(rng, 200) };
        thread::sleep(Duration::from_millis(down));
        self.nodes[victim].start();
    }
}

/// Ann and Bob write to each other all the time; they and their relay are killed fifty times
/// in all, in the middle of whatever they do, starting included. In the end Bob stays away
/// and later gets from the relay alone what it said that it has.
///
/// `TEAHOUSE_NET_SEED` repeats the choices of a run (not its timing).
#[test]
fn killed_fifty_times() {
    let seed = std::env::var("TEAHOUSE_NET_SEED").ok().and_then(|s| s.parse().ok());
    let seed = seed.unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        now.as_secs() ^ u64::from(now.subsec_nanos())
    });
    println!("TEAHOUSE_NET_SEED={seed}");
    let mut rng = ChaCha20Rng::seed_from_u64(seed);

    let home = Home::new();
    let nodes = [
        Node::relay(&home, "relay").lossy(),
        Node::device(&home, "ann").lossy().with_account("Ann"),
        Node::device(&home, "bob").lossy().with_account("Bob"),
    ];
    let mut town = Town { nodes, killed: [0; 3] };
    for node in &mut town.nodes {
        node.up();
    }
    let [relay, ann, bob] = &town.nodes;
    let link = invite(relay);
    use_relay(ann, &link);
    use_relay(bob, &link);
    let topic = befriend(ann, "Ann", bob, "hello");
    let (ann_dir, bob_dir) = (ann.dir.clone(), bob.dir.clone());

    let began = Instant::now();
    let stop = AtomicBool::new(false);
    let (ann_sent, bob_sent) = thread::scope(|scope| {
        let stop = &stop;
        let ann = scope.spawn(move || drive(&ann_dir, topic, "from Ann", stop));
        let bob = scope.spawn(move || drive(&bob_dir, topic, "from Bob", stop));
        // A panic below must not leave the drivers running.
        let _stop = StopOnDrop(stop);
        for _ in 0..TOGETHER {
            town.kill_one_of(3, &mut rng);
        }
        town.kill(BOB);
        for _ in 0..APART {
            town.kill_one_of(2, &mut rng);
        }
        stop.store(true, Ordering::Relaxed);
        (ann.join().expect("Ann's driver"), bob.join().expect("Bob's driver"))
    });
    let (under_load, calm) = (began.elapsed(), Instant::now());

    // What the relay said that it has, Bob gets from it, without Ann.
    town.nodes[RELAY].answers();
    town.nodes[ANN].answers();
    let relayed = within(QUIET, "the relay has all that Bob does not have", || {
        let mut own = history(&town.nodes[ANN].client(), topic);
        own.retain(|m| m.mine);
        let states = own.iter().map(|m| m.delivery.unwrap_or_else(|| panic!("{m:?}")));
        let stored = states.clone().all(|d| d.relayed > 0 || d.delivered > 0);
        stored.then(|| states.filter(|d| d.delivered == 0).count())
    });
    town.kill(ANN);
    town.kill(RELAY);
    town.nodes[RELAY].up();
    town.nodes[BOB].up();
    within(QUIET, "Bob gets from the relay what it has", || {
        let there: BTreeSet<MessageId> = history(&town.nodes[BOB].client(), topic)
            .into_iter()
            .filter(|m| matches!(m.content, view::Content::Text(_)))
            .map(|m| m.id)
            .collect();
        ann_sent.acked.keys().all(|id| there.contains(id)).then_some(())
    });

    town.nodes[ANN].up();
    let [_, ann, bob] = &town.nodes;
    let settled = |what: &str| {
        within(QUIET, what, || {
            let left = missing("Ann", ann, topic, &ann_sent, &bob_sent)
                + missing("Bob", bob, topic, &bob_sent, &ann_sent)
                + same(ann, bob, topic);
            (left == 0).then_some(())
        });
    };
    settled("everything acknowledged arrives, once, and its sender knows");
    let quiet = calm.elapsed();

    // Nothing of it was only in memory, or only in what is derived.
    for node in &mut town.nodes {
        node.stop();
        node.up();
    }
    let [relay, ann, bob] = &town.nodes;
    for node in [ann, bob] {
        node.json(&["rebuild"]);
    }
    let left = missing("Ann", ann, topic, &ann_sent, &bob_sent)
        + missing("Bob", bob, topic, &bob_sent, &ann_sent);
    assert_eq!(left, 0, "after a restart and a rebuild");
    let status = relay.json(&["relay", "status"]);

    let acked = ann_sent.acked.len() + bob_sent.acked.len();
    let unsure = ann_sent.unsure.len() + bob_sent.unsure.len();
    let there = history(&ann.client(), topic).len();
    let [relay_killed, ann_killed, bob_killed] = town.killed;
    let kills = relay_killed + ann_killed + bob_killed;
    println!(
        "{kills} kills (relay {relay_killed}, Ann {ann_killed}, Bob {bob_killed}) in {:.0} s; \
         {acked} messages acknowledged, {unsure} unsure, {there} there; {relayed} came by the \
         relay alone; all settled {:.1} s after the load; the relay holds {} items",
        under_load.as_secs_f64(),
        quiet.as_secs_f64(),
        status["relay"]["mailbox"]["items"],
    );
    assert_eq!(kills, 50);
    assert!(relayed >= 50, "too little for the relay to prove anything: {relayed}");
    assert!(acked >= 300, "too little load to prove anything: {acked}");
    assert!(there >= acked);
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
