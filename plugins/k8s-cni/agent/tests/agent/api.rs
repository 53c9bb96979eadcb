//! Stands in for an API server: lists objects, lets them be watched, and remembers what was patched. It judges nothing.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;

use serde_json::{Value, json};

#[derive(Debug, Default)]
struct State {
    /// Events of each kind, in order; a list is what they come to.
    events: Vec<(String, Value)>,
    patches: Vec<(String, Value)>,
    /// Counts what a watch must end at: a restart of the server.
    epoch: u64,
    /// The kind whose lists are refused.
    refused: Option<&'static str>,
}

/// The stand-in; it ends with the test's process.
#[derive(Debug, Clone)]
pub struct Api {
    state: Arc<(Mutex<State>, Condvar)>,
    port: u16,
}

impl Api {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let api = Self { state: Arc::default(), port };
        let server = api.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = server.clone();
                // Who hangs up in the middle of an answer has its reasons.
                thread::spawn(move || drop(server.serve(stream)));
            }
        });
        api
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Makes or changes an object of a kind: `pods`.
    pub fn put(&self, kind: &str, object: Value) {
        self.happens(kind, "MODIFIED", object);
    }

    pub fn delete(&self, kind: &str, object: Value) {
        self.happens(kind, "DELETED", object);
    }

    /// Ends all watches, and forgets what they might have missed.
    pub fn restart(&self) {
        self.lock().epoch += 1;
        self.state.1.notify_all();
    }

    /// Refuses to list a kind from now on, or none.
    pub fn refuse(&self, kind: Option<&'static str>) {
        self.lock().refused = kind;
    }

    pub fn patches(&self) -> Vec<(String, Value)> {
        self.lock().patches.clone()
    }

    fn happens(&self, kind: &str, event: &str, mut object: Value) {
        let mut state = self.lock();
        object["metadata"]["resourceVersion"] = Value::from((state.events.len() + 1).to_string());
        state.events.push((kind.to_owned(), json!({"type": event, "object": object})));
        self.state.1.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.0.lock().expect("no panic")
    }

    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut first = String::new();
        reader.read_line(&mut first)?;
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            match line.to_ascii_lowercase().strip_prefix("content-length:") {
                Some(value) => length = value.trim().parse().expect("a length"),
                None if line.trim().is_empty() => break,
                None => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let words: Vec<&str> = first.split(' ').collect();
        let (path, query) = words[1].split_once('?').unwrap_or((words[1], ""));
        let kind = path.rsplit('/').next().expect("a kind");
        match words[0] {
            "PATCH" => {
                let patch = serde_json::from_slice(&body).expect("JSON");
                self.lock().patches.push((path.to_owned(), patch));
                answer(&mut stream, 200, &json!({"metadata": {"name": "one"}}))
            }
            _ if query.contains("watch=true") => self.watch(&mut stream, kind, query),
            _ if self.lock().refused == Some(kind) => {
                let status = json!({"kind": "Status", "status": "Failure", "code": 403, "reason": "Forbidden", "message": "no"});
                answer(&mut stream, 403, &status)
            }
            _ => answer(&mut stream, 200, &self.list(kind)),
        }
    }

    fn list(&self, kind: &str) -> Value {
        let state = self.lock();
        let mut items: Vec<Value> = Vec::new();
        for (_, event) in state.events.iter().filter(|(of, _)| of == kind) {
            let object = &event["object"];
            items.retain(|item| {
                (&item["metadata"]["namespace"], &item["metadata"]["name"])
                    != (&object["metadata"]["namespace"], &object["metadata"]["name"])
            });
            if event["type"] != "DELETED" {
                items.push(object.clone());
            }
        }
        json!({"metadata": {"resourceVersion": state.events.len().to_string()}, "items": items})
    }

    fn watch(&self, stream: &mut TcpStream, kind: &str, query: &str) -> std::io::Result<()> {
        let from = query.split('&').find_map(|word| word.strip_prefix("resourceVersion="));
        let mut seen: usize = from.and_then(|from| from.parse().ok()).unwrap_or(0);
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n")?;
        let mut state = self.lock();
        let epoch = state.epoch;
        while state.epoch == epoch {
            let new: Vec<Value> = state.events[seen.min(state.events.len())..]
                .iter()
                .filter(|(of, _)| of == kind)
                .map(|(_, event)| event.clone())
                .collect();
            seen = state.events.len();
            drop(state);
            for event in new {
                writeln!(stream, "{event}")?;
            }
            stream.flush()?;
            state = self.lock();
            if seen == state.events.len() && state.epoch == epoch {
                state = self.state.1.wait(state).expect("no panic");
            }
        }
        drop(state);
        // What a server says that has forgotten where the watcher was.
        let gone = json!({"type": "ERROR", "object": {"kind": "Status", "status": "Failure", "code": 410, "reason": "Expired", "message": "too old"}});
        writeln!(stream, "{gone}")
    }
}

fn answer(stream: &mut TcpStream, status: u16, body: &Value) -> std::io::Result<()> {
    let body = body.to_string();
    write!(
        stream,
        "HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}
