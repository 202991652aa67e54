//! The API over real HTTP, on a node in memory.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};
use teahouse_core::store::Store;

use super::{Api, Serves, openapi};
use crate::config::RelayFile;
use crate::roles::relay::{RelayNode, RelayOptions};
use crate::runtime::{Node, NodeConfig};

/// Sends a request as it is and returns status and body.
fn send(api: (u16, &str), request: &str, host: &str, auth: bool, body: &str) -> (u16, String) {
    let (port, token) = api;
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let auth = if auth { format!("Authorization: Bearer {token}\r\n") } else { String::new() };
    let length = body.len();
    write!(
        stream,
        "{request} HTTP/1.1\r\nHost: {host}\r\n{auth}Content-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    // A stream of events has no end: the head is enough.
    if request.contains("/v1/events") {
        let mut head = [0; 12];
        stream.read_exact(&mut head).unwrap();
        answer = String::from_utf8(head.to_vec()).unwrap();
    } else {
        stream.read_to_string(&mut answer).unwrap();
    }
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (status, body.to_owned())
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

fn device() -> (Node, Serves) {
    let node = Node::with_store(Store::in_memory().unwrap(), None).unwrap();
    let serves = Serves::Device(node.handle().clone());
    (node, serves)
}

fn device_in(dir: &std::path::Path) -> (Node, Serves) {
    let (data, store) = (dir.to_owned(), teahouse_core::store::StoreOptions::default());
    let node = Node::start(NodeConfig { data, store, network: None }).unwrap();
    let serves = Serves::Device(node.handle().clone());
    (node, serves)
}

fn relay(dir: &std::path::Path) -> (RelayNode, Serves) {
    let (data, store) = (dir.to_owned(), teahouse_core::store::StoreOptions::default());
    let settings = RelayFile {
        public_addrs: vec!["/dns/tea.example/tcp/4747".into()],
        ..RelayFile::default()
    };
    let relay = RelayNode::start(RelayOptions { data, store, listen: None, settings }).unwrap();
    let serves = Serves::Relay(relay.handle().clone());
    (relay, serves)
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_knows_the_token_on_this_machine() {
    let (_node, serves) = device();
    let api = Api::start(&serves, 0).await.unwrap();
    let (port, token) = (api.port(), api.token().to_owned());
    blocking(move || {
        let get = |path: &str, host: &str, auth| {
            send((port, &token), &format!("GET {path}"), host, auth, "").0
        };
        assert_eq!(get("/v1/identity", "127.0.0.1", true), 200);
        assert_eq!(get("/v1/identity", &format!("localhost:{port}"), true), 200);
        assert_eq!(get("/v1/identity", "127.0.0.1", false), 401);
        assert_eq!(get("/v1/identity", "evil.example", true), 403);
        assert_eq!(get("/openapi.json", "127.0.0.1", false), 401, "no exceptions");
        assert_eq!(get("/no/such/route", "127.0.0.1", false), 401, "nothing can be probed");
        assert_eq!(get("/no/such/route", "127.0.0.1", true), 404);
    })
    .await;
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_get_problems() {
    let (_node, serves) = device();
    let api = Api::start(&serves, 0).await.unwrap();
    let (port, token) = (api.port(), api.token().to_owned());
    blocking(move || {
        let ask = |request: &str, body: &str| {
            let (status, body) = send((port, &token), request, "localhost", true, body);
            let problem: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(problem["status"], status, "{problem}");
            assert!(!problem["detail"].as_str().unwrap().is_empty());
            (status, problem)
        };
        let zeros = "0".repeat(64);
        assert_eq!(ask("GET /v1/chats/xyz/members", "").0, 400);
        assert_eq!(ask(&format!("GET /v1/chats/{zeros}"), "").0, 404);
        assert_eq!(ask(&format!("GET /v1/chats/{zeros}/messages?limit=0"), "").0, 400);
        assert_eq!(ask(&format!("GET /v1/chats/{zeros}/messages?before=1"), "").0, 400);
        assert_eq!(ask("POST /v1/identity", "").0, 405);
        assert_eq!(ask("POST /v1/commands", "{").0, 400);
        assert_eq!(ask("POST /v1/commands", "{\"devices\":\"no_such\"}").0, 400);
        assert_eq!(ask("POST /v1/commands", &" ".repeat(super::MAX_BODY + 1)).0, 413);
        let blank = format!(
            "{{\"chat\":{{\"send\":{{\"topic\":\"{zeros}\",\"text\":\" \",\"reply_to\":null}}}}}}"
        );
        assert_eq!(ask("POST /v1/commands", &blank).0, 400, "a message of nothing but spaces");
        let (status, problem) = ask("POST /v1/commands", "{\"devices\":\"link_start\"}");
        assert_eq!((status, &problem["refusal"]), (409, &Value::from("no_account")));
    })
    .await;
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_and_the_routes_are_the_same() {
    let document: Value = serde_json::from_str(openapi::DOCUMENT).unwrap();
    let mut described: BTreeSet<(String, String)> = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            described.insert((method.clone(), path.clone()));
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let (_node, device) = device_in(&dir.path().join("device"));
    let (_relay, relay) = relay(&dir.path().join("relay"));
    let mut served = BTreeSet::new();
    for serves in [device, relay] {
        let mut paths = BTreeSet::new();
        for route in serves.routes(&tokio_util::sync::CancellationToken::new()) {
            paths.insert((route.method.to_owned(), route.path.to_owned()));
        }
        served.extend(paths.clone());
        // And each is answered: by data, or by a problem that the data is missing, but not
        // as a route that does not exist.
        let api = Api::start(&serves, 0).await.unwrap();
        let (port, token) = (api.port(), api.token().to_owned());
        blocking(move || {
            for (method, path) in paths {
                let path = path.replace("{topic}", &"0".repeat(64));
                let path = path.replace("{name}", "feeds.article");
                let path = path.replace("{index}", "0");
                let path = path.replace("{account}", &"0".repeat(64));
                let path = path.replace("{message}", &format!("{}:1", "0".repeat(64)));
                let request = format!("{} {path}", method.to_uppercase());
                let (status, body) = send((port, &token), &request, "localhost", true, "");
                let expected = match (method.as_str(), &path[..]) {
                    ("post", "/v1/rebuild") => status == 200,
                    ("post", _) => status == 400,
                    _ if path.contains(&"0".repeat(64)) => {
                        status == 404 && body.contains("refusal")
                    }
                    _ => status == 200,
                };
                assert!(expected, "{request}: {status} {body}");
            }
        })
        .await;
        api.stop().await;
    }
    assert_eq!(described, served);

    let filled_in = openapi::filled_in();
    let names = &filled_in["components"]["schemas"]["QueryName"];
    assert!(names["enum"].as_array().unwrap().contains(&json!("moments.timeline")));
    assert!(names["description"].as_str().unwrap().contains("`moments.timeline`: posts"));

    // Every reference leads somewhere.
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let mut text = openapi::DOCUMENT;
    while let Some((_, rest)) = text.split_once("#/components/schemas/") {
        let name = rest.split('"').next().unwrap();
        assert!(schemas.contains_key(name), "{name}");
        text = rest;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_makes_invites_and_drains() {
    let dir = tempfile::tempdir().unwrap();
    let (_relay, serves) = relay(dir.path());
    let api = Api::start(&serves, 0).await.unwrap();
    let (port, token) = (api.port(), api.token().to_owned());
    blocking(move || {
        let post = |path: &str, body: &str| {
            let request = format!("POST /v1/relay/{path}");
            let (status, body) = send((port, &token), &request, "localhost", true, body);
            (status, serde_json::from_str::<Value>(&body).unwrap())
        };
        let (status, invited) = post("invite", "{\"uses\":1,\"days\":1}");
        assert_eq!(status, 200, "{invited}");
        assert!(invited["link"].as_str().unwrap().starts_with("teahouse:relay/"));
        assert_eq!(post("invite", "{\"uses\":0,\"days\":1}").0, 400);
        let greeter = "{\"uses\":1,\"days\":1,\"greeter\":\"teahouse:card/aa\"}";
        assert_eq!(post("invite", greeter).0, 400);
        let (status, view) = post("drain", "{\"drain\":true}");
        assert_eq!((status, &view["mailbox"]["draining"]), (200, &Value::Bool(true)));
    })
    .await;
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_come_resume_and_end() {
    use std::io::BufRead;
    let (node, serves) = device();
    let api = Api::start(&serves, 0).await.unwrap();
    let (port, token) = (api.port(), api.token().to_owned());
    let open = move |last: Option<&str>| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
        let last = last.map_or_else(String::new, |id| format!("Last-Event-ID: {id}\r\n"));
        write!(
            stream,
            "GET /v1/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n{last}\r\n"
        )
        .unwrap();
        let mut lines = std::io::BufReader::new(stream).lines();
        while !lines.next().unwrap().unwrap().is_empty() {}
        lines
    };
    let handle = node.handle().clone();
    let create = move |n: u8| {
        use teahouse_core::command::{Command, Devices};
        let name = format!("Ada {n}");
        let command = if n == 0 {
            Devices::Create { name, device_name: "d".into() }
        } else {
            Devices::Rename { name }
        };
        handle.submit_blocking(Command::Devices(command)).unwrap();
    };
    blocking(move || {
        let field = |lines: &mut std::io::Lines<_>, name: &str| -> String {
            let lines: &mut std::io::Lines<std::io::BufReader<TcpStream>> = lines;
            lines.map(|l| l.unwrap()).find_map(|l| Some(l.strip_prefix(name)?.to_owned())).unwrap()
        };
        let mut first = open(None);
        create(0);
        assert_eq!(field(&mut first, "event: "), "touched");
        let data: Value = serde_json::from_str(&field(&mut first, "data: ")).unwrap();
        assert!(data["views"].as_array().unwrap().contains(&Value::from("identity")), "{data}");
        let id = field(&mut first, "id: ");
        drop(first);

        create(1);
        let mut again = open(Some(&id));
        assert_eq!(field(&mut again, "event: "), "touched", "what was missed comes");
        let next: u64 = field(&mut again, "id: ").parse().unwrap();
        assert_eq!(next, id.parse::<u64>().unwrap() + 1);
        drop(again);

        let mut stranger = open(Some("5"));
        assert_eq!(field(&mut stranger, "event: "), "resync");
        stranger
    })
    .await;
    // An open stream does not hold up the end.
    api.stop().await;
}
