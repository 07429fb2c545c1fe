//! This file answers: do C and Rust decide alike? `differential SEED STEPS PROGRAM`
//!
//! One random walk of calls, made on `wsauth::Engine` here and, through the C ABI, by tests/c/differential.c in its own
//! process. Same configuration, same seed, same manual clock: every result, output, event and text must be equal.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::arithmetic_side_effects,
    reason = "a test program: what is wrong ends it"
)]

mod call;
mod configs;
mod plan;
mod random;
mod tokens;
mod twin;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use call::{Call, Frame};
use plan::Plan;
use twin::Twin;

/// Calls that go to C at a time.
const BATCH: usize = 500;
const WALL_MS: u64 = 1_800_000_000_000;

/// A call, and what Rust said to it.
type Step = (Call, String);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [seed, steps, program] = arguments.as_slice() else { panic!("differential SEED STEPS PROGRAM") };
    let (seed, steps): (u64, usize) = (seed.parse().expect("a seed"), steps.parse().expect("a number of steps"));
    println!("seed {seed}, {steps} steps");
    let mut c = Command::new(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let (mut to, from) = (c.stdin.take().expect("a pipe"), c.stdout.take().expect("a pipe"));
    let (said, saying) = sync_channel::<Vec<Step>>(4);
    let comparing = thread::spawn(move || compare(BufReader::new(from), &saying));

    let toml = configs::good(0);
    let (mut twin, mut plan) = (Twin::new(&toml, WALL_MS), Plan::new(seed, WALL_MS));
    let mut results: BTreeMap<String, BTreeMap<u32, u64>> = BTreeMap::new();
    let mut most = 0;
    let mut bytes = Frame::of_start(&toml, WALL_MS);
    let mut batch = Vec::with_capacity(BATCH);
    for step in 1..=steps {
        let call = plan.next();
        bytes.extend(Frame::of(&call));
        let (number, line) = twin.call(&call);
        plan.learn(std::mem::take(&mut twin.seen));
        *results.entry(call.name().to_owned()).or_default().entry(number).or_default() += 1;
        most = most.max(twin.connections());
        batch.push((call, line));
        if batch.len() == BATCH || step == steps {
            // First to whom reads what C says, or both pipes fill up. A comparison that has failed, or a C program that has
            // ended, takes no more.
            if said.send(std::mem::take(&mut batch)).is_err() || to.write_all(&bytes).is_err() {
                break;
            }
            bytes.clear();
        }
    }
    drop((to, said));
    let (equal, problem) = comparing.join().expect("the comparison does not panic");
    let ended = c.wait().expect("it was started");
    for (name, numbers) in &results {
        let list: Vec<String> = numbers.iter().map(|(number, times)| format!("{number}:{times}")).collect();
        println!("{name}: {}", list.join(" "));
    }
    println!("at most {most} connections at once, {} results", results.values().map(BTreeMap::len).sum::<usize>());
    let problem = problem.or_else(|| (!ended.success()).then(|| format!("the C program: {ended}")));
    if let Some(problem) = &problem {
        println!("{problem}");
    }
    println!("{equal} passed, {} failed", u8::from(problem.is_some()));
    if problem.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// How many lines were equal, and the first that was not.
fn compare(mut from: impl BufRead, saying: &Receiver<Vec<Step>>) -> (usize, Option<String>) {
    let mut equal = 0;
    let mut line = String::new();
    for (call, rust) in saying.iter().flatten() {
        line.clear();
        let read = from.read_line(&mut line);
        let c = line.trim_end_matches('\n');
        if read.is_err() || c != rust {
            let at = rust.bytes().zip(c.bytes()).take_while(|(rust, c)| rust == c).count();
            let what = format!("step {}, from byte {at}: {call:?}\n  Rust: {rust}\n  C:    {c}", equal + 1);
            return (equal, Some(what));
        }
        equal += 1;
    }
    (equal, None)
}
