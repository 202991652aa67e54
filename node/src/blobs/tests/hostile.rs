use iroh_blobs::protocol::{
    ChunkRanges, ChunkRangesSeq, GetManyRequest, GetRequest, ObserveRequest, Request,
};

use super::*;

/// Answers every request with these bytes.
async fn liar(answer: Vec<u8>) -> (Endpoint, Provider) {
    let (endpoint, provider) = bare().await;
    let accepting = endpoint.clone();
    tokio::spawn(async move {
        while let Some(incoming) = accepting.accept().await {
            let connection = incoming.accept().unwrap().await.unwrap();
            let answer = answer.clone();
            tokio::spawn(async move {
                while let Ok((mut send, mut recv)) = connection.accept_bi().await {
                    recv.read_to_end(1 << 20).await.unwrap();
                    // The other side may stop listening at any time.
                    let _ = send.write_all(&answer).await;
                    let _ = send.finish();
                }
            });
        }
    });
    (endpoint, provider)
}

/// What an honest provider sends for the whole content.
async fn honest(blobs: &Blobs, content: &ContentRef) -> Vec<u8> {
    let store = &blobs.0.store.opened().await.unwrap().store;
    let bao = store.blobs().export_bao(content.hash, ChunkRanges::all());
    bao.bao_to_vec().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_liar_sends_is_refused_and_an_honest_one_asked() {
    let dir = tempfile::tempdir().unwrap();
    let one = tester(&dir.path().join("1"));
    let content = one.offer(noise(1_000_000, 1)).await.content;
    let size = content.sealed_size().unwrap();
    let answer = honest(&one.blobs, &content).await;
    let change = |at: usize| {
        let mut changed = answer.clone();
        changed[at] ^= 1;
        changed
    };
    let good = one.blobs.addr().await.unwrap();
    let mut n = 1;
    for (lie, keeps) in [
        (change(answer.len() / 2), true),
        (change(answer.len() - 1), true),
        (change(100), false),
        (answer[..answer.len() / 2].to_vec(), true),
        (Vec::new(), false),
        // Another size: larger, smaller, absurd.
        (change(0), false),
        (change(3), false),
        (change(7), false),
    ] {
        n += 1;
        let two = tester(&dir.path().join(n.to_string()));
        let (_alive, bad) = liar(lie).await;
        let failed = two.blobs.fetch(content.hash, size, vec![bad.clone()]).unwrap().finish().await;
        assert!(matches!(failed, Err(BlobsError::Failed(_))), "{failed:?}");
        let status = two.blobs.status(&content.hash).await.unwrap();
        assert_eq!(matches!(status, Status::Partial { .. }), keeps, "{status:?}");
        let both = two.blobs.fetch(content.hash, size, vec![bad, good.clone()]).unwrap();
        both.finish().await.unwrap();
        assert_eq!(two.blobs.read_plain(&content, 1 << 30).await.unwrap(), noise(1_000_000, 1));
        two.blobs.close().await;
    }
    one.blobs.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_size_that_was_named_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (tester(&dir.path().join("1")), tester(&dir.path().join("2")));
    let content = one.offer(noise(5_000_000, 1)).await.content;
    let addr = one.blobs.addr().await.unwrap();
    for size in [100_000, content.sealed_size().unwrap() - 1] {
        let refused = two.blobs.fetch(content.hash, size, vec![addr.clone()]).unwrap();
        let refused = refused.finish().await;
        assert!(matches!(refused, Err(BlobsError::Failed(_))), "{refused:?}");
        assert_eq!(two.blobs.status(&content.hash).await.unwrap(), Status::Absent);
    }
    assert!(usage(&dir.path().join("2/data")) < 100_000);
    // What is here under another size than a message says is not what it means.
    two.get(&content, &[&one]).await.unwrap();
    let other = two.blobs.fetch(content.hash, 100_000, vec![addr]).unwrap().finish().await;
    assert!(matches!(other, Err(BlobsError::Failed(_))));
    one.blobs.close().await;
    two.blobs.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_served_is_given_and_the_rest_looks_absent() {
    let dir = tempfile::tempdir().unwrap();
    let one = tester(&dir.path().join("1"));
    let served = one.offer(noise(100_000, 1)).await.content;
    let secret = one.blobs.import_bytes(noise(100_000, 2)).await.unwrap().content;
    // A content whose sealed bytes name another one can't be made by choice; the store's own
    // notion of a list is tried with the served one itself.
    let addr = one.blobs.addr().await.unwrap();
    let (endpoint, _) = bare().await;
    let id = iroh::PublicKey::from_bytes(&addr.device).unwrap();
    let to =
        iroh::EndpointAddr::from_parts(id, addr.addrs.iter().copied().map(iroh::TransportAddr::Ip));
    let connection = endpoint.connect(to, iroh_blobs::ALPN).await.unwrap();
    let ask = |request: Request| {
        let connection = connection.clone();
        async move {
            let (mut send, mut recv) = connection.open_bi().await.unwrap();
            send.write_all(&postcard::to_stdvec(&request).unwrap()).await.unwrap();
            send.finish().unwrap();
            recv.read_to_end(1 << 20).await
        }
    };
    let whole = |hash: [u8; 32]| GetRequest::blob(hash);
    assert!(ask(Request::Get(whole(served.hash))).await.unwrap().len() > 100_000);
    let mut answers = Vec::new();
    for request in [
        Request::Get(whole([7; 32])),
        Request::Get(whole(secret.hash)),
        Request::Get(GetRequest::all(served.hash)),
        Request::Get(GetRequest::new(secret.hash.into(), ChunkRangesSeq::verified_size())),
        Request::Observe(ObserveRequest::new(served.hash.into())),
        Request::GetMany(
            [iroh_blobs::Hash::from_bytes(served.hash)].into_iter().collect::<GetManyRequest>(),
        ),
    ] {
        answers.push(format!("{:?}", ask(request).await.unwrap_err()));
    }
    assert!(answers.iter().all(|a| *a == answers[0]), "{answers:#?}");
    // A hash that is allowed, but of which nothing is here, sounds the same.
    one.served.lock().unwrap().insert([8; 32]);
    assert_eq!(format!("{:?}", ask(Request::Get(whole([8; 32]))).await.unwrap_err()), answers[0]);

    // Garbage, and nothing at all, hold nobody up.
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    send.write_all(&[0xff; 64]).await.unwrap();
    send.finish().unwrap();
    assert!(recv.read_to_end(1 << 20).await.is_err());
    assert!(ask(Request::Get(whole(served.hash))).await.is_ok());
    one.blobs.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_device_gets_so_many_connections() {
    let dir = tempfile::tempdir().unwrap();
    let one = tester(dir.path());
    one.offer(noise(1_000, 1)).await;
    let addr = one.blobs.addr().await.unwrap();
    let (endpoint, _) = bare().await;
    let id = iroh::PublicKey::from_bytes(&addr.device).unwrap();
    let to =
        iroh::EndpointAddr::from_parts(id, addr.addrs.iter().copied().map(iroh::TransportAddr::Ip));
    let mut open = Vec::new();
    for _ in 0..6 {
        open.push(endpoint.connect(to.clone(), iroh_blobs::ALPN).await.unwrap());
    }
    // The last ones are closed, the first ones stay.
    open[5].closed().await;
    open[4].closed().await;
    assert!(open[..4].iter().all(|c| c.close_reason().is_none()));
    one.blobs.close().await;
}
