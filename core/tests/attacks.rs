//! The attack vectors, through the engine as a server would use it. `tests/vectors/reasons.json` holds the reason
//! of each, the same file that the other faces are compared with.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that panics fails, as it should"
)]

mod shared;

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value as Json, json};
use shared::{Request, config, engine, token};
use wsauth::lookup::{Answer, HttpResponse, Question, Vouched};
use wsauth::time::{Now, WallTime};
use wsauth::{EventKind, Payload, Progress, Revocation};

const KINDS: [&str; 8] =
    ["jwt", "origin", "handshake", "message", "client_ip", "refresh", "introspection", "introspection_jwt"];

#[test]
fn every_attack_ends_as_it_must() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors");
    let text = std::fs::read_to_string(folder.join("attacks.jsonl")).unwrap();
    let mut reasons = BTreeMap::new();
    let mut wrong = Vec::new();
    for line in text.lines() {
        let vector: Json = serde_json::from_str(line).unwrap();
        let kind = vector["kind"].as_str().unwrap();
        if !KINDS.contains(&kind) {
            continue;
        }
        let outcome = match kind {
            "jwt" => jwt(&vector),
            "origin" => origin(&vector),
            "handshake" => handshake(&vector),
            "message" => message(&vector),
            "client_ip" => client_ip(&vector),
            "introspection" => introspection(&vector["config"], response(&vector["response"])),
            "introspection_jwt" => introspection(&vector["config"], signed_response(&vector["token"])),
            _ => refresh(&vector),
        };
        let id = vector["id"].as_str().unwrap().to_owned();
        if (outcome == "accepted") != (vector["expected"] == "accept") {
            wrong.push(format!("{id}: {outcome}: {}", vector["why"]));
        }
        reasons.insert(id, outcome);
    }
    assert_eq!(wrong, Vec::<String>::new(), "{} wrong", wrong.len());
    assert_eq!(reasons.len(), 290);

    let path = folder.join("reasons.json");
    let mut written = serde_json::to_string_pretty(&reasons).unwrap();
    written.push('\n');
    if std::env::var_os("WSAUTH_WRITE_REASONS").is_some() {
        std::fs::write(&path, &written).unwrap();
    }
    assert_eq!(written, std::fs::read_to_string(&path).unwrap(), "reasons changed: review them, then write them");
}

fn now(verifier: &Json) -> Now {
    Now::new(verifier["now"].as_u64().unwrap() * 1000, 1_000)
}

/// What the verifier of a vector is told, as our configuration.
fn verifier(told: &Json) -> Json {
    let issuers: Vec<Json> = match told["issuers"].as_array() {
        Some(several) => several.iter().map(|one| issuer(told, one)).collect(),
        None => vec![issuer(told, told)],
    };
    let mut handshake = json!({ "credentials": ["authorization"], "trusted_proxies": [], "require_origin": false });
    if let Some(scope) = told["required_scope"].as_str() {
        handshake["required_permissions"] = json!([scope]);
    }
    if let Some(bytes) = told["max_token_bytes"].as_u64() {
        handshake["max_token_bytes"] = json!(bytes);
    }
    json!({ "issuer": issuers, "handshake": handshake, "messages": { "ping": "public" } })
}

fn issuer(told: &Json, one: &Json) -> Json {
    let pick = |key: &str| if one[key].is_null() { told[key].clone() } else { one[key].clone() };
    let mut keys = json!({});
    if !pick("jwks").is_null() {
        keys["jwks"] = json!(pick("jwks").to_string());
        if told["jwks_trust"] == "local" {
            keys["allow_secrets"] = json!(true);
        }
    }
    if let Some(pem) = pick("public_key_pem").as_str() {
        keys["public_key"] = json!(pem);
    }
    if let Some(secret) = pick("hmac_secret_b64u").as_str() {
        keys["secrets"] = json!([{ "base64url": secret }]);
    }
    let mut issuer = json!({
        "issuer": pick("issuer"),
        "audience": pick("audience"),
        "algorithms": pick("algorithms"),
        "keys": keys,
        "leeway": told["leeway"],
        "expiry_leeway": told["leeway"],
        "permissions_claims": ["scope"],
    });
    for (theirs, ours) in
        [("require_typ", "typ"), ("scope_claims", "permissions_claims"), ("max_lifetime", "max_lifetime")]
    {
        if !told[theirs].is_null() {
            issuer[ours] = told[theirs].clone();
        }
    }
    if told["require_jti"] == true {
        issuer["required_claims"] = json!(["jti"]);
    }
    issuer
}

fn jwt(vector: &Json) -> String {
    let told = &vector["config"];
    let engine = match engine(&verifier(told)) {
        Ok(engine) => engine,
        Err(_) => return "config_invalid".into(),
    };
    let issuer = told["issuer"].as_str().unwrap_or_default();
    for id in told["revoked_jti"].as_array().into_iter().flatten() {
        engine.revoke(Revocation::Token { issuer, token_id: id.as_str().unwrap() }, now(told));
    }
    for (subject, before) in told["revoke_before"].as_object().into_iter().flatten() {
        let what = Revocation::Subject { issuer, subject, issued_before: before.as_u64() };
        engine.revoke(what, now(told));
    }
    let request = Request::new().bearer(vector["token"].as_str().unwrap());
    outcome(request.send(&engine, now(told)))
}

fn origin(vector: &Json) -> String {
    let told = &vector["config"];
    let engine = engine(&config(json!({ "handshake": {
        "credentials": ["first_message"],
        "origins": told["allowed_origins"],
        "require_origin": told["require_origin"],
        "trusted_proxies": [],
    }})))
    .unwrap();
    let mut request = Request::new();
    for origin in vector["origins"].as_array().unwrap() {
        request = request.with("Origin", origin.as_str().unwrap());
    }
    outcome(request.send(&engine, Now::new(1, 1)))
}

fn handshake(vector: &Json) -> String {
    let told = &vector["config"];
    let mut config = verifier(&told["verify"]);
    let handshake = &mut config["handshake"];
    handshake["origins"] = told["allowed_origins"].clone();
    handshake["require_origin"] = told["require_origin"].clone();
    let mut credentials = Vec::new();
    for source in told["sources"].as_array().unwrap() {
        let (kind, name) = source.as_str().unwrap().split_once(':').unwrap_or((source.as_str().unwrap(), ""));
        credentials.push(json!(kind));
        match kind {
            "query" => handshake["query_parameter"] = json!(name),
            "cookie" => handshake["cookie"] = json!({ "name": name, "holds": "token" }),
            "subprotocol" => handshake["subprotocol_prefixes"] = json!([name]),
            _ => {}
        }
    }
    handshake["credentials"] = json!(credentials);
    if !told["max_headers"].is_null() {
        handshake["max_fields"] = told["max_headers"].clone();
    }
    let engine = engine(&config).unwrap();
    let request = Request {
        method: bytes(&vector["request"]["method"]),
        target: bytes(&vector["request"]["target"]),
        headers: pairs(&vector["request"]["headers"]),
        peer: vector["request"]["peer"].as_str().unwrap().parse().unwrap(),
    };
    outcome(request.send(&engine, now(&told["verify"])))
}

fn message(vector: &Json) -> String {
    let told = &vector["config"];
    let mut config = config(json!({
        "messages": told["message_scopes"],
        "message": { "max_bytes": told["max_message_bytes"] },
    }));
    config["issuer"][0]["permissions_claims"] = json!(["permissions"]);
    let engine = engine(&config).unwrap();
    let now = Now::new(1_800_000_000_000, 1_000);
    let principal = &vector["principal"];
    let token = token(&json!({
        "sub": principal["sub"], "permissions": principal["scopes"], "exp": 1_800_000_600u64,
    }));
    let admitted = Request::new().bearer(&token).send(&engine, now).unwrap();
    let message = STANDARD.decode(vector["message_b64"].as_str().unwrap()).unwrap();
    match engine.message(admitted.connection, Payload::Text(&message), now) {
        Ok(_) => "accepted".into(),
        Err(withheld) => withheld.refusal().map_or("withheld", |refusal| refusal.reason.name()).into(),
    }
}

fn client_ip(vector: &Json) -> String {
    let told = &vector["config"];
    let engine = engine(&config(json!({ "handshake": {
        "credentials": ["first_message"],
        "trusted_proxies": told["trusted_proxies"],
        "blocked": told["blocked"],
        "require_origin": false,
    }})))
    .unwrap();
    let mut request = Request::new().from(vector["peer"].as_str().unwrap());
    request.headers.extend(pairs(&vector["headers"]));
    outcome(request.send(&engine, Now::new(1, 1)))
}

/// The principal comes in by an opaque token, whose issuer vouches for it; the vector's token refreshes it.
fn refresh(vector: &Json) -> String {
    let told = &vector["config"];
    let mut config = verifier(told);
    config["issuer"][0]["opaque"] = json!(true);
    let engine = engine(&config).unwrap();
    let now = now(told);
    let admitted = Request::new().bearer("opaque-0123456789abcdef").send(&engine, now).unwrap();
    let principal = &vector["principal"];
    assert_eq!(principal["iss"], told["issuer"]);
    for lookup in engine.lookups(8, now) {
        let vouched = Vouched {
            subject: principal["sub"].as_str().unwrap().to_owned(),
            expiry: WallTime(principal["exp"].as_u64().unwrap() * 1000),
            issued_at: principal["iat"].as_u64(),
            token_id: None,
            session_id: principal["sid"].as_str().map(str::to_owned),
            client_id: principal["client_id"].as_str().map(str::to_owned),
            tenant: principal["tenant"].as_str().map(str::to_owned),
            permissions: principal["scopes"]
                .as_array()
                .unwrap()
                .iter()
                .map(|scope| scope.as_str().unwrap().to_owned())
                .collect(),
            claims: serde_json::Map::new(),
        };
        engine.answer(lookup.id, Answer::Vouched(Box::new(vouched)), now).unwrap();
    }
    match engine.refresh(admitted.connection, vector["token"].as_str().unwrap().as_bytes(), now) {
        Ok(_) => "accepted".into(),
        Err(refusal) => refusal.reason.name().into(),
    }
}

/// An opaque token, and the answer of its issuer's endpoint about it.
fn introspection(told: &Json, response: HttpResponse) -> String {
    let mut config = verifier(told);
    let issuer = &mut config["issuer"][0];
    issuer["opaque"] = json!(true);
    issuer["introspection"] = json!({
        "url": "https://idp.example.com/introspect",
        "client_id": "ws",
        "client_secret": { "text": "secret" },
        "signed": !told["jwks"].is_null(),
    });
    if told["jwks"].is_null() {
        issuer.as_object_mut().unwrap().remove("keys");
        issuer.as_object_mut().unwrap().remove("algorithms");
    }
    // What a token must say of its type; an answer has a type of its own.
    issuer.as_object_mut().unwrap().remove("typ");
    let (engine, now) = (engine(&config).unwrap(), now(told));
    let admitted = Request::new().bearer("opaque-0123456789abcdef").send(&engine, now).unwrap();
    assert_eq!(admitted.progress, Progress::Authenticating);
    let lookups = engine.lookups(8, now);
    assert!(
        matches!(&lookups[..], [lookup] if matches!(&lookup.question, Question::Introspection { url: Some(_), .. }))
    );
    engine.answer(lookups[0].id, Answer::Response(Box::new(response)), now).unwrap();
    let mut events = Vec::new();
    let _ = engine.poll(0, now, usize::MAX, &mut events).unwrap();
    let verdicts = events.iter().filter_map(|event| match &event.kind {
        EventKind::Ready => Some("accepted"),
        EventKind::Refused { refusal, .. } => Some(refusal.reason.name()),
        _ => None,
    });
    let verdict: Vec<_> = verdicts.collect();
    assert_eq!(verdict.len(), 1, "{events:?}");
    verdict[0].to_owned()
}

fn response(value: &Json) -> HttpResponse {
    let headers = pairs(&value["headers"]);
    let mut types = headers.into_iter().filter(|(name, _)| name.eq_ignore_ascii_case(b"content-type"));
    let content_type = match (types.next(), types.next()) {
        (Some((_, value)), None) => String::from_utf8(value).ok(),
        _ => None,
    };
    let status = u16::try_from(value["status"].as_u64().unwrap()).unwrap();
    let body = STANDARD.decode(value["body_b64"].as_str().unwrap()).unwrap();
    HttpResponse { status, content_type, retry_after_ms: None, body }
}

fn signed_response(token: &Json) -> HttpResponse {
    let content_type = Some("application/token-introspection+jwt".to_owned());
    HttpResponse { status: 200, content_type, retry_after_ms: None, body: token.as_str().unwrap().into() }
}

fn outcome(result: Result<wsauth::Admitted, wsauth::Refusal>) -> String {
    match result {
        Ok(_) => "accepted".into(),
        Err(refusal) => refusal.reason.name().into(),
    }
}

/// Text, or `{"b64": …}` for what is no text.
fn bytes(value: &Json) -> Vec<u8> {
    match value["b64"].as_str() {
        Some(encoded) => STANDARD.decode(encoded).or_else(|_| URL_SAFE_NO_PAD.decode(encoded)).unwrap(),
        None => value.as_str().unwrap().as_bytes().to_vec(),
    }
}

fn pairs(value: &Json) -> Vec<(Vec<u8>, Vec<u8>)> {
    value.as_array().unwrap().iter().map(|pair| (bytes(&pair[0]), bytes(&pair[1]))).collect()
}
