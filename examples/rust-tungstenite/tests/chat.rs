//! This file answers: does the example server, as a process, do what it says?
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails this way fails, as it should"
)]

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tungstenite::http::Request;
use tungstenite::{Message, WebSocket};

const SECRET: &str = "a secret of at least thirty-two bytes";
const ISSUER: &str = "https://id.example.com";

struct Server {
    child: Child,
    lines: BufReader<ChildStdout>,
    address: String,
}

impl Server {
    fn start() -> Server {
        let mut child = Command::new(env!("CARGO_BIN_EXE_wsauth-example-tungstenite"))
            .args([concat!(env!("CARGO_MANIFEST_DIR"), "/wsauth.toml"), "0"])
            .env("WSAUTH_SECRET", SECRET)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut first = String::new();
        lines.read_line(&mut first).unwrap();
        let address = first.trim().strip_prefix("listening ").unwrap().to_owned();
        Server { child, lines, address }
    }

    fn order(&mut self, line: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// The next audit line with this event.
    fn audited(&mut self, event: &str) -> Value {
        loop {
            let mut line = String::new();
            assert_ne!(self.lines.read_line(&mut line).unwrap(), 0, "no `{event}` in the audit");
            let audit: Value = serde_json::from_str(&line).unwrap();
            if audit["event"] == event {
                return audit;
            }
        }
    }

    fn connect(&self, token: &str) -> Result<Peer, u16> {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let request = Request::builder()
            .uri(format!("ws://{}/", self.address))
            .header("Host", "live.example.com")
            .header("Connection", "Upgrade")
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("Origin", "https://app.example.com")
            .header("Authorization", format!("Bearer {token}"))
            .body(())
            .unwrap();
        match tungstenite::client(request, stream) {
            Ok((socket, _)) => {
                let mut peer = Peer(socket);
                assert_eq!(peer.next()["type"], "auth_success");
                Ok(peer)
            }
            Err(tungstenite::HandshakeError::Failure(tungstenite::Error::Http(response))) => {
                Err(response.status().as_u16())
            }
            Err(error) => panic!("{error:?}"),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Peer(WebSocket<TcpStream>);

impl Peer {
    fn send(&mut self, message: Value) {
        self.0.send(Message::text(message.to_string())).unwrap();
    }

    fn next(&mut self) -> Value {
        loop {
            match self.0.read().unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Close(frame) => return json!({"closed": u16::from(frame.unwrap().code)}),
                _ => {}
            }
        }
    }
}

fn token(subject: &str, permissions: &[&str]) -> String {
    let now = wsauth_runtime::Clock::system().fine().wall.as_secs();
    let claims = json!({
        "iss": ISSUER, "aud": "wss://live.example.com", "sub": subject, "iat": now, "exp": now + 600,
        "permissions": permissions,
    });
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap()
}

#[test]
fn the_chat_serves_those_who_may_and_nobody_else() {
    let mut server = Server::start();
    assert_eq!(server.connect("not.a.token").err(), Some(401));
    assert_eq!(server.audited("handshake_refused")["result"], "failure");

    let mut ann = server.connect(&token("ann", &["listing:42:read", "chat:write"])).unwrap();
    let mut bob = server.connect(&token("bob", &["listing:42:write", "chat:read"])).unwrap();
    ann.send(json!({"type": "listing.subscribe", "listing_id": "42"}));
    assert_eq!(ann.next(), json!({"type": "listing.subscribed", "listing_id": "42"}));
    ann.send(json!({"type": "listing.subscribe", "listing_id": "43"}));
    assert_eq!(ann.next()["code"], "permission_denied");
    bob.send(json!({"type": "listing.subscribe", "listing_id": "42"}));
    assert_eq!(bob.next()["code"], "permission_denied");

    ann.send(json!({"type": "chat.send", "listing_id": "42", "text": "hi"}));
    assert_eq!(ann.next(), json!({"type": "chat.message", "listing_id": "42", "from": "ann", "text": "hi"}));
    bob.send(json!({"type": "chat.history", "listing_id": "42"}));
    assert_eq!(bob.next()["messages"], json!([{"from": "ann", "text": "hi"}]));
    bob.send(json!({"type": "listing.update", "listing_id": "42", "price": 1}));
    assert_eq!(ann.next(), json!({"type": "listing.changed", "listing_id": "42", "price": 1}));

    server.order(&format!("revoke {ISSUER} ann"));
    assert_eq!(ann.next()["closed"], 4006);
    server.audited("revoked");
    bob.send(json!({"type": "listing.update", "listing_id": "42", "price": 2}));
    server.order("quit");
    assert_eq!(bob.next()["closed"], 1001);
    assert!(server.child.wait().unwrap().success());
}
