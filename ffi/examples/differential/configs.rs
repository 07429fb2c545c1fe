//! This file answers: under which rules do both sides run, and which are refused?

/// The issuer of signed tokens.
pub(crate) const LOCAL: &str = "https://id.example.com";
/// The issuer whose keys are asked for.
pub(crate) const REMOTE: &str = "https://keys.example.com";
/// The issuer of opaque tokens.
pub(crate) const OPAQUE: &str = "https://opaque.example.com";
/// Its secrets, by key id.
pub(crate) const SECRETS: [(&str, &str); 2] =
    [("k1", "the first secret of thirty-two by"), ("k2", "the second secret of thirty-two b")];
/// Shards, which a reload leaves as they are.
pub(crate) const SHARDS: u8 = 2;

/// Shape of a good configuration.
struct Shape {
    leeway: &'static str,
    handshake: &'static str,
    messages: &'static str,
    deliveries: &'static str,
    /// How opaque tokens are asked about; nothing: the host knows.
    introspection: &'static str,
    rest: &'static str,
}

const SHAPES: [Shape; 3] = [
    Shape {
        leeway: "30s",
        handshake: "origins = ['https://app.example.com', 'https://*.agents.example.com']\n\
                    credentials = ['authorization', 'cookie', 'subprotocol', 'first_message']\n\
                    require_origin = false\nsubprotocols = ['chat.v1', 'chat.v2']\n",
        messages: "'ping' = 'public'\n'chat.send' = ['chat:write', 'chat:admin']\n'room.join' = 'room:{room}:join'\n\
                   'inbox.read' = 'user:{@sub}:read'\n'report' = { permissions = 'chat:write', weight = 5 }\n",
        deliveries: "'chat.message' = 'chat:read'\n'room.event' = 'room:{room}:join'\n'news' = 'public'\n",
        introspection: "",
        rest: "[limits]\nconnections_per_address = 24\nconnections_per_user = 16\n\
               messages_per_user = { count = 600, per = '1m', burst = 30 }\n",
    },
    Shape {
        leeway: "0",
        handshake: "origins = ['https://app.example.com']\n\
                    credentials = ['authorization', 'cookie', 'first_message', 'query']\n\
                    paths = ['/ws', '/live']\nhosts = ['live.example.com']\nblocked = ['198.51.100.0/24']\n",
        messages: "'ping' = 'public'\n'chat.send' = 'chat:write'\n'room.join' = 'room:{room}:join'\n\
                   'blob' = 'chat:write'\n",
        deliveries: "'chat.message' = 'chat:read'\n'room.event' = ['room:{room}:join', 'chat:admin']\n",
        introspection: "introspection = { url = 'https://opaque.example.com/ask', client_id = 'ws', \
                        client_secret = { text = 'a secret' }, cache = '5s', negative_cache = '2s', recheck = '1m' }\n",
        rest: "[limits]\nconnections_per_address = 40\nconnections_per_user = 6\nuser_policy = 'reject'\nstrikes = 20\n\
               messages_per_user = { count = 60, per = '1m', burst = 10 }\n\
               control_per_user = { count = 3, per = '10s', burst = 3 }\n\
               [message]\nbinary = 'blob'\n[connection]\nidle = '1m'\nmax_age = '30m'\n\
               [refresh]\nlead = '30s'\nattempts = 2\nwiden = false\non_key_removed = 'close'\n",
    },
    Shape {
        leeway: "30s",
        handshake: "origins = ['https://app.example.com', 'https://*.agents.example.com']\n\
                    credentials = ['authorization', 'cookie', 'subprotocol']\n\
                    cookie_beside = 'ignore'\nrequired_permissions = ['chat:read']\n",
        messages: "'ping' = 'chat:read'\n'chat.send' = 'chat:write'\n'room.join' = 'room:{room}:join'\n",
        deliveries: "'chat.message' = 'chat:read'\n",
        introspection: "",
        rest: "[profile]\npermissions = ['room:*:join', 'chat:write']\nattributes = ['plan']\noptional = true\ncache = '5s'\n\
               [limits]\nconnections_per_address = 30\nconnections_per_user = 10\n\
               [brute_force]\nalert_above = 5\nblock_above = 12\nwindow = '10s'\nblock_for = '5s'\n\
               [close]\nprofile = 'graphql-ws'\nmap = { 4006 = 4499 }\n",
    },
];

/// One of the good ones.
pub(crate) fn good(which: usize) -> String {
    let Shape { leeway, handshake, messages, deliveries, introspection, rest } = &SHAPES[which % SHAPES.len()];
    let [first, second] = SECRETS.map(|(id, secret)| format!("{{ text = '{secret}', kid = '{id}' }}"));
    let connection = format!("shards = {SHARDS}\nmax_unauthenticated = 40\n");
    let rest = match rest.split_once("[connection]\n") {
        Some((before, after)) => format!("{before}[connection]\n{connection}{after}"),
        None => format!("{rest}[connection]\n{connection}"),
    };
    format!(
        "[[issuer]]\nissuer = '{LOCAL}'\naudience = ['live']\nalgorithms = ['HS256']\nleeway = '{leeway}'\nwildcards = true\n\
         keys = {{ secrets = [{first}, {second}] }}\n\
         [[issuer]]\nissuer = '{REMOTE}'\naudience = ['live']\nalgorithms = ['EdDSA']\n\
         keys = {{ jwks_url = 'https://keys.example.com/jwks' }}\n\
         [[issuer]]\nissuer = '{OPAQUE}'\naudience = ['live']\nopaque = true\n{introspection}\
         [lookups]\ndriver = 'host'\n\
         [sessions]\n\
         [handshake]\ntrusted_proxies = ['10.0.0.0/8']\ntrust_unix_peers = true\ncookie = {{ holds = 'session' }}\n{handshake}\
         [messages]\n{messages}[deliveries]\n{deliveries}{rest}"
    )
}

/// What no engine takes.
pub(crate) fn bad(which: usize) -> String {
    let good = good(which);
    match which % 6 {
        0 => good.replace("[messages]", "[mesages]"),
        1 => good.replace("'ping'", "'token_refresh'"),
        2 => good.replace("['live']", "[]"),
        3 => good.replace("{room}:join", "{room:join"),
        4 => good.replace("'https://app.example.com'", "'*'"),
        _ => good.chars().take(200).collect(),
    }
}
