//! This file answers: what does a complete guarded server look like?
//!
//! The chat of a real-estate site: one thread a connection, subscriptions by listing, deliveries checked one by one.
//! Every decision about who may do what is wsauth's; this file only keeps the application.
//!
//! Arguments: the configuration file and a port (0 takes any). It prints `listening 127.0.0.1:PORT`, then one line of
//! JSON per audit event. Lines on standard input: `revoke ISSUER SUBJECT` and `quit`.

mod chat;

use std::error::Error;
use std::io::{self, BufRead, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use wsauth::Revocation;
use wsauth_runtime::Guard;

use crate::chat::Chat;

/// Threads, and so connections and upgrades, at one time.
const MAX_THREADS: usize = 4096;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(config), Some(port)) = (arguments.next(), arguments.next()) else {
        return Err("usage: wsauth-example-tungstenite CONFIG PORT".into());
    };
    let guard = Guard::from_file(&config)?;
    let listener = TcpListener::bind(("127.0.0.1", port.parse()?))?;
    println!("listening {}", listener.local_addr()?);
    io::stdout().flush()?;

    let audit = Arc::new(Audit { guard: guard.clone(), printing: Mutex::new(()) });
    let printer = Arc::clone(&audit);
    thread::Builder::new().name("audit".to_owned()).spawn(move || printer.run())?;
    let admin = guard.clone();
    thread::Builder::new().name("admin".to_owned()).spawn(move || obey(&admin, &audit))?;
    serve(&listener, &guard);
    Ok(())
}

/// Accepts for ever: one thread a connection, and no more than there may be.
fn serve(listener: &TcpListener, guard: &Guard) {
    let chat = Arc::new(Chat::default());
    let threads = Arc::new(AtomicUsize::new(0));
    loop {
        let Ok((stream, _)) = listener.accept() else {
            // Out of descriptors: let some connections end.
            thread::sleep(Duration::from_millis(50));
            continue;
        };
        if threads.load(Ordering::Relaxed) >= MAX_THREADS {
            continue;
        }
        let place = Place::take(&threads);
        let (guard, chat) = (guard.clone(), Arc::clone(&chat));
        let spawned = thread::Builder::new().name("connection".to_owned()).spawn(move || {
            let _place = place;
            // A refusal was told to the peer, and the audit has it.
            if let Ok(socket) = guard.accept(stream) {
                chat.serve(&guard, socket);
            }
        });
        drop(spawned);
    }
}

/// One of the threads there may be.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(threads: &Arc<AtomicUsize>) -> Place {
        threads.fetch_add(1, Ordering::Relaxed);
        Place(Arc::clone(threads))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The operator's lines. End of input leaves the server running.
fn obey(guard: &Guard, audit: &Audit) {
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["revoke", issuer, subject] => {
                guard.revoke(Revocation::Subject { issuer, subject, issued_before: None });
            }
            ["quit"] => {
                guard.close_all();
                thread::sleep(Duration::from_millis(100));
                audit.print();
                std::process::exit(0);
            }
            _ => eprintln!("commands: revoke ISSUER SUBJECT, quit"),
        }
    }
}

/// Prints what was decided, in order.
struct Audit {
    guard: Guard,
    printing: Mutex<()>,
}

impl Audit {
    fn run(&self) {
        loop {
            self.print();
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn print(&self) {
        let _printing = self.printing.lock();
        let mut out = io::stdout().lock();
        loop {
            let events = self.guard.audit(1024);
            if events.is_empty() {
                break;
            }
            for event in events {
                // A reader that is gone must not end the server.
                let _ = writeln!(out, "{}", event.to_json());
            }
        }
        let _ = out.flush();
    }
}
