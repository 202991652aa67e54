//! Circuits, reservations and mailboxes at a relay node.

use super::*;

impl Node {
    async fn relay(seed: u8, listen: &[&str]) -> Self {
        Self::start(seed, listen, NetRole::Relay(RelayLimits::default())).await
    }

    fn relay_id(&self) -> RelayId {
        RelayId(self.key)
    }

    async fn mail(&self, id: u64, relay: &Self, request: &[u8]) {
        let (addrs, request) = (relay.addrs.clone(), request.to_vec());
        self.command(NetCommand::Mail { id, relay: relay.relay_id(), addrs, request }).await;
    }

    async fn mail_request(&mut self) -> (u64, u64, Vec<u8>) {
        self.until(|e| match e {
            NetEvent::MailRequest { id, session, bytes } => Some((id, session, bytes)),
            _ => None,
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_without_an_address_meet_through_a_relay() {
    let relay = Node::relay(50, &[QUIC, TCP]).await;
    // They listen nowhere, so only the circuit can connect them.
    let mut a = Node::device(1, &[]).await;
    let mut b = Node::device(2, &[]).await;
    let at = vec![(relay.relay_id(), relay.addrs.clone())];
    b.command(NetCommand::UseRelays(at.clone())).await;
    b.until_event(NetEvent::Reservation { relay: relay.relay_id(), ok: true }).await;
    assert_eq!(b.handle.status().await.unwrap().reservations, [relay.relay_id()]);

    let (peer, addrs) = (b.id(), Vec::new());
    a.command(NetCommand::Dial { peer, addrs, relays: at }).await;
    a.until_event(NetEvent::Up { peer: b.id(), relayed: true }).await;
    b.until_event(NetEvent::Up { peer: a.id(), relayed: true }).await;
    for n in 0..200 {
        send(&a.handle, b.id(), numbered(n)).await;
        send(&b.handle, a.id(), numbered(n)).await;
    }
    for n in 0..200 {
        assert_eq!(a.frame().await, numbered(n));
        assert_eq!(b.frame().await, numbered(n));
    }
    // More than libp2p's default of 128 KiB per circuit.
    send(&a.handle, b.id(), vec![9; MAX_FRAME]).await;
    assert!(b.frame().await == vec![9; MAX_FRAME]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_circuit_gives_way_to_a_direct_connection() {
    let relay = Node::relay(50, &[QUIC]).await;
    let mut a = Node::device(1, &[]).await;
    let mut b = Node::device(2, &[QUIC]).await;
    let at = vec![(relay.relay_id(), relay.addrs.clone())];
    b.command(NetCommand::UseRelays(at.clone())).await;
    b.until_event(NetEvent::Reservation { relay: relay.relay_id(), ok: true }).await;
    let (peer, addrs) = (b.id(), Vec::new());
    a.command(NetCommand::Dial { peer, addrs, relays: at }).await;
    a.until_event(NetEvent::Up { peer, relayed: true }).await;
    let mut sent = 0;
    let direct = async {
        // The better address arrives later; frames go on meanwhile.
        a.dial(&b).await;
        loop {
            send(&a.handle, peer, numbered(sent)).await;
            sent += 1;
            match a.events.try_recv() {
                Some(NetEvent::Up { relayed: false, .. }) => break,
                Some(NetEvent::Down { .. }) => panic!("the session broke"),
                _ => sleep(Duration::from_millis(1)).await,
            }
        }
    };
    timeout(PATIENCE, direct).await.unwrap();
    let started = Instant::now();
    while started.elapsed() < Duration::from_millis(1_500) {
        send(&a.handle, peer, numbered(sent)).await;
        sent += 1;
        sleep(Duration::from_millis(5)).await;
    }
    for n in 0..sent {
        assert_eq!(b.frame().await, numbered(n));
    }
    let connections = a.handle.status().await.unwrap().connections;
    let with_b: Vec<_> = connections.iter().filter(|c| c.key == b.key).collect();
    assert_eq!(with_b.len(), 1, "{connections:?}");
    assert!(!with_b[0].relayed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reservation_is_regained_after_the_relay_restarts() {
    let relay = Node::relay(50, &[QUIC]).await;
    let mut b = Node::device(2, &[]).await;
    let (id, addrs) = (relay.relay_id(), relay.addrs.clone());
    b.command(NetCommand::UseRelays(vec![(id, addrs.clone())])).await;
    b.until_event(NetEvent::Reservation { relay: id, ok: true }).await;
    relay.stop().await;
    b.until_event(NetEvent::Reservation { relay: id, ok: false }).await;
    assert!(b.handle.status().await.unwrap().reservations.is_empty());

    let listen: Vec<_> = addrs.iter().map(String::as_str).collect();
    let relay = Node::relay(50, &listen).await;
    b.until_event(NetEvent::Reservation { relay: id, ok: true }).await;
    b.command(NetCommand::UseRelays(Vec::new())).await;
    let left = async {
        while !relay.handle.status().await.unwrap().connections.is_empty() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, left).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mailbox_request_does_not_show_the_device_key() {
    let mut relay = Node::relay(50, &[QUIC, TCP]).await;
    let mut other_relay = Node::relay(51, &[QUIC]).await;
    let mut a = Node::device(1, &[QUIC]).await;
    a.mail(7, &relay, b"deposit").await;
    let (id, session, bytes) = relay.mail_request().await;
    assert_eq!(bytes, b"deposit");
    let seen = relay.handle.status().await.unwrap().connections;
    assert_eq!(seen.len(), 1);
    assert_ne!(seen[0].key, a.key);
    relay.command(NetCommand::Answer { id, response: b"stored".to_vec() }).await;
    a.until_event(NetEvent::MailReply { id: 7, result: Ok(b"stored".to_vec()) }).await;

    // Several wait at once, on the same session, and are answered in any order.
    for n in 1..=8_u8 {
        a.mail(n.into(), &relay, &[n]).await;
    }
    let mut asked = Vec::new();
    for _ in 0..8 {
        let (id, s, bytes) = relay.mail_request().await;
        assert_eq!(s, session);
        asked.push((id, bytes));
    }
    while let Some((id, response)) = asked.pop() {
        let n = response[0];
        relay.command(NetCommand::Answer { id, response: response.clone() }).await;
        a.until_event(NetEvent::MailReply { id: n.into(), result: Ok(response) }).await;
    }

    // Another relay sees another key.
    a.mail(8, &other_relay, b"fetch").await;
    other_relay.mail_request().await;
    let elsewhere = other_relay.handle.status().await.unwrap().connections;
    assert_ne!(elsewhere[0].key, seen[0].key);
    assert_ne!(elsewhere[0].key, a.key);

    // With the client gone, the relay learns that the session is over.
    a.stop().await;
    relay.until_event(NetEvent::MailClosed { session }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mailbox_failures_are_told_apart() {
    let mut relay = Node::relay(50, &[TCP]).await;
    let mut a = Node::device(1, &[]).await;
    let failed = |id, error| NetEvent::MailReply { id, result: Err(error) };

    a.mail(1, &relay, &vec![0; MAX_MAIL + 1]).await;
    a.until_event(failed(1, MailError::Refused)).await;

    a.mail(2, &relay, &vec![0; MAX_MAIL]).await;
    let (id, _, bytes) = relay.mail_request().await;
    assert_eq!(bytes.len(), MAX_MAIL);
    relay.command(NetCommand::Answer { id, response: vec![0; MAX_MAIL + 1] }).await;
    a.until_event(failed(2, MailError::Refused)).await;

    a.mail(3, &relay, b"poll").await;
    relay.mail_request().await;
    let addrs = relay.addrs.clone();
    let id = relay.relay_id();
    relay.stop().await;
    a.until_event(failed(3, MailError::Unreachable)).await;

    let ask = |n| NetCommand::Mail { id: n, relay: id, addrs: addrs.clone(), request: vec![1] };
    a.command(ask(4)).await;
    // The dead session may refuse it, or a new one finds nobody.
    a.until_event(failed(4, MailError::Unreachable)).await;

    let listen: Vec<_> = addrs.iter().map(String::as_str).collect();
    let mut relay = Node::relay(50, &listen).await;
    a.command(ask(5)).await;
    let (id, _, _) = relay.mail_request().await;
    relay.command(NetCommand::Answer { id, response: vec![2] }).await;
    a.until_event(NetEvent::MailReply { id: 5, result: Ok(vec![2]) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_bounds_what_waits_for_its_answers() {
    let limits = RelayLimits { mail_requests: 2, ..RelayLimits::default() };
    let mut relay = Node::start(50, &[QUIC], NetRole::Relay(limits)).await;
    let mut a = Node::device(1, &[]).await;
    for id in 1..=3 {
        a.mail(id, &relay, b"poll").await;
    }
    relay.mail_request().await;
    relay.mail_request().await;
    let refused = a
        .until(|e| match e {
            NetEvent::MailReply { result, .. } => Some(result),
            _ => None,
        })
        .await;
    assert_eq!(refused, Err(MailError::Refused));
}
