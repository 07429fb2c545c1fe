//! This file answers: what does the application do with a message wsauth let through?

use std::collections::{HashMap, VecDeque};

use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use wsauth_runtime::Guard;
use wsauth_runtime::tungstenite::{GuardedSocket, Message, Sender};

/// Texts kept per listing, and listings they are kept for.
const MAX_HISTORY: usize = 50;
const MAX_LISTINGS: usize = 10_000;
/// Listings one connection may subscribe to.
const MAX_SUBSCRIPTIONS: usize = 100;

/// Who listens to which listing, and what was said.
#[derive(Default)]
pub(crate) struct Chat {
    subscribers: Mutex<HashMap<String, Vec<Sender>>>,
    history: Mutex<HashMap<String, VecDeque<Value>>>,
}

impl Chat {
    /// Serves one connection until it ends.
    pub(crate) fn serve(&self, guard: &Guard, mut socket: GuardedSocket) {
        let mut subscribed = Vec::new();
        // Only what wsauth delivers comes out of `read`; it ends when the connection must.
        while let Ok(message) = socket.read() {
            self.answer(guard, &socket, &message, &mut subscribed);
        }
        let mut subscribers = self.subscribers.lock();
        for listing in subscribed {
            if let Some(senders) = subscribers.get_mut(&listing) {
                senders.retain(|sender| sender.connection() != socket.connection());
                if senders.is_empty() {
                    subscribers.remove(&listing);
                }
            }
        }
    }

    fn answer(&self, guard: &Guard, socket: &GuardedSocket, message: &Message, subscribed: &mut Vec<String>) {
        let Message::Text(text) = message else { return };
        let Ok(Value::Object(message)) = serde_json::from_str(text) else { return };
        let text_of = |field: &str| message.get(field).and_then(Value::as_str);
        let Some(listing) = text_of("listing_id").filter(|listing| !listing.is_empty() && listing.len() <= 128) else {
            socket.reply(&json!({"type": "bad_request", "field": "listing_id"}).to_string());
            return;
        };
        match text_of("type") {
            Some("listing.subscribe") => self.subscribe(socket, listing, subscribed),
            Some("chat.send") => self.say(guard, socket, listing, text_of("text").unwrap_or_default()),
            Some("chat.history") => self.tell_history(socket, listing),
            Some("listing.update") => self.update(guard, listing, &message),
            // Allowed by the configuration, unknown to this program.
            _ => {}
        }
    }

    fn subscribe(&self, socket: &GuardedSocket, listing: &str, subscribed: &mut Vec<String>) {
        if !subscribed.iter().any(|known| known == listing) {
            if subscribed.len() >= MAX_SUBSCRIPTIONS {
                socket.reply(&json!({"type": "bad_request", "field": "listing_id"}).to_string());
                return;
            }
            subscribed.push(listing.to_owned());
            self.subscribers.lock().entry(listing.to_owned()).or_default().push(socket.sender());
        }
        socket.reply(&json!({"type": "listing.subscribed", "listing_id": listing}).to_string());
    }

    fn say(&self, guard: &Guard, socket: &GuardedSocket, listing: &str, text: &str) {
        // Who speaks is what the credential says, never what the message says.
        let Some(identity) = socket.identity() else { return };
        let from = &*identity.subject;
        {
            let mut history = self.history.lock();
            if history.len() < MAX_LISTINGS || history.contains_key(listing) {
                let said = history.entry(listing.to_owned()).or_default();
                said.push_back(json!({"from": from, "text": text}));
                if said.len() > MAX_HISTORY {
                    said.pop_front();
                }
            }
        }
        let message = json!({"type": "chat.message", "listing_id": listing, "from": from, "text": text});
        self.deliver(guard, "chat.message", listing, &message);
    }

    fn tell_history(&self, socket: &GuardedSocket, listing: &str) {
        let said: Vec<Value> = self.history.lock().get(listing).into_iter().flatten().cloned().collect();
        socket.reply(&json!({"type": "chat.history", "listing_id": listing, "messages": said}).to_string());
    }

    fn update(&self, guard: &Guard, listing: &str, message: &Map<String, Value>) {
        let price = message.get("price").filter(|price| price.is_number()).cloned().unwrap_or(Value::Null);
        let changed = json!({"type": "listing.changed", "listing_id": listing, "price": price});
        self.deliver(guard, "listing.changed", listing, &changed);
    }

    /// Sends to those subscribers who may receive it now. A subscription is a wish, not a right: permissions shrink
    /// and tokens expire, so every delivery is asked about.
    fn deliver(&self, guard: &Guard, delivery: &str, listing: &str, message: &Value) {
        let senders = self.subscribers.lock().get(listing).cloned().unwrap_or_default();
        guard.publish(&senders, delivery, &[("listing_id", listing)], &message.to_string());
    }
}
