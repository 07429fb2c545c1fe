//! This file answers: what do the tests of real sockets share?
#![allow(dead_code, reason = "each test file uses its part")]

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tungstenite::http::Request;
use tungstenite::{Message, WebSocket};
use wsauth::config::{Config, SecretSource};
use wsauth_runtime::tungstenite::{AcceptError, AcceptOptions, GuardedSocket};
use wsauth_runtime::{Clock, Guard};

pub(crate) const ISSUER: &str = "https://id.example.com";
const SECRET: &[u8] = b"a secret of at least thirty-two bytes";

/// The configuration most tests start from; `{}` takes more keys of `[handshake]` and further tables.
pub(crate) fn config(credentials: &str, more: &str) -> Config {
    struct Secrets;
    impl SecretSource for Secrets {
        fn env(&self, _: &str) -> Result<Vec<u8>, String> {
            Ok(SECRET.to_vec())
        }
        fn file(&self, _: &str) -> Result<Vec<u8>, String> {
            Err("no files".to_owned())
        }
    }
    let text = format!(
        r#"
        [[issuer]]
        issuer = "{ISSUER}"
        audience = ["wss://live.example.com"]
        algorithms = ["HS256"]
        keys = {{ secret = {{ env = "SECRET" }} }}
        opaque = true

        [handshake]
        origins = ["https://app.example.com"]
        credentials = {credentials}
        require_origin = false
        trusted_proxies = []
        {more}

        [messages]
        "chat.send" = "chat:write"
        "chat.admin" = "chat:admin"

        [deliveries]
        "chat.message" = "chat:read"
        "#
    );
    Config::from_toml(&text, &Secrets).unwrap()
}

pub(crate) fn guard() -> Guard {
    Guard::new(config(r#"["authorization"]"#, ""), Clock::system()).unwrap()
}

pub(crate) fn wall_secs() -> u64 {
    Clock::system().fine().wall.as_secs()
}

/// A token that holds `permissions` for `life` seconds from `now`.
pub(crate) fn token_at(now: u64, subject: &str, life: u64, permissions: &[&str]) -> String {
    let claims = json!({
        "iss": ISSUER,
        "aud": "wss://live.example.com",
        "sub": subject,
        "iat": now,
        "exp": now + life,
        "permissions": permissions,
    });
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET);
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap()
}

pub(crate) fn token(subject: &str) -> String {
    token_at(wall_secs(), subject, 3600, &["chat:read", "chat:write"])
}

/// A server that runs `handler` on a thread per accepted connection, for as long as the test process lives.
pub(crate) struct Server {
    pub(crate) guard: Guard,
    pub(crate) address: SocketAddr,
    pub(crate) refused: crossbeam_channel::Receiver<AcceptError>,
}

pub(crate) fn serve(
    guard: Guard,
    options: AcceptOptions,
    handler: impl Fn(GuardedSocket) + Send + Sync + 'static,
) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, refused) = crossbeam_channel::unbounded();
    let (handler, inner) = (Arc::new(handler), guard.clone());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, handler, guard) = (stream.unwrap(), Arc::clone(&handler), inner.clone());
            let (options, tell) = (options.clone(), tell.clone());
            thread::spawn(move || match guard.accept_with(stream, &options) {
                Ok(socket) => handler(socket),
                Err(error) => drop(tell.send(error)),
            });
        }
    });
    Server { guard, address, refused }
}

/// Answers every delivered text with itself.
pub(crate) fn echo(mut socket: GuardedSocket) {
    while let Ok(Message::Text(text)) = socket.read() {
        socket.reply(&text);
    }
}

pub(crate) struct Client(pub(crate) WebSocket<TcpStream>);

impl Server {
    pub(crate) fn stream(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    pub(crate) fn request(&self) -> tungstenite::http::request::Builder {
        Request::builder()
            .uri(format!("ws://{}/", self.address))
            .header("Host", "live.example.com")
            .header("Connection", "Upgrade")
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
    }

    /// Connects and reads `auth_success`.
    pub(crate) fn connect(&self, token: &str) -> Client {
        let mut client = self.try_connect(token).unwrap();
        assert_eq!(client.json()["type"], "auth_success");
        client
    }

    /// Connects; the error is the HTTP status and body of the refusal.
    pub(crate) fn try_connect(&self, token: &str) -> Result<Client, (u16, Value)> {
        self.open(self.request().header("Authorization", format!("Bearer {token}")).body(()).unwrap())
    }

    pub(crate) fn open(&self, request: Request<()>) -> Result<Client, (u16, Value)> {
        match tungstenite::client(request, self.stream()) {
            Ok((socket, _)) => Ok(Client(socket)),
            Err(tungstenite::HandshakeError::Failure(tungstenite::Error::Http(response))) => {
                let body = response.body().as_deref().unwrap_or_default();
                Err((response.status().as_u16(), serde_json::from_slice(body).unwrap_or_default()))
            }
            Err(error) => panic!("{error:?}"),
        }
    }

    /// What the server answers to these bytes, until it closes.
    pub(crate) fn raw(&self, bytes: &[u8]) -> String {
        use std::io::Read;
        let mut stream = self.stream();
        stream.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8(answer).unwrap()
    }

    /// Waits until the engine holds this many connections.
    pub(crate) fn wait_for_connections(&self, wanted: usize) {
        for _ in 0..2_000 {
            if self.guard.connections() == wanted {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("{} connections, not {wanted}", self.guard.connections());
    }
}

impl Client {
    pub(crate) fn send(&mut self, message: &Value) {
        self.0.send(Message::text(message.to_string())).unwrap();
    }

    /// The next text, as JSON.
    pub(crate) fn json(&mut self) -> Value {
        match self.next() {
            Ok(text) => serde_json::from_str(&text).unwrap(),
            Err((code, reason)) => panic!("closed with {code} {reason}"),
        }
    }

    /// Reads until the close frame: its code and reason, and the texts before it.
    pub(crate) fn until_closed(&mut self) -> (u16, String, Vec<Value>) {
        let mut texts = Vec::new();
        loop {
            match self.next() {
                Ok(text) => texts.push(serde_json::from_str(&text).unwrap()),
                Err((code, reason)) => return (code, reason, texts),
            }
        }
    }

    /// The next text, or the close frame.
    pub(crate) fn next(&mut self) -> Result<String, (u16, String)> {
        loop {
            match self.0.read() {
                Ok(Message::Text(text)) => return Ok(text.to_string()),
                Ok(Message::Close(frame)) => {
                    // Answers it.
                    let _ = self.0.flush();
                    let frame = frame.unwrap();
                    return Err((frame.code.into(), frame.reason.to_string()));
                }
                Ok(_) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
    }
}
