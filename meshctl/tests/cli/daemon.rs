//! A socket with canned answers in place of a daemon.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;

/// Answers by path; the last one of a path is given again and again.
type Answers = BTreeMap<String, Vec<(u16, String)>>;

/// The socket, in a directory of its own.
pub struct Daemon {
    dir: TempDir,
    answers: Arc<Mutex<Answers>>,
    requests: Arc<Mutex<Vec<(String, String)>>>,
}

impl Daemon {
    /// Listens; every path is unknown until it is given an answer.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let daemon = Self { dir, answers: Arc::default(), requests: Arc::default() };
        let listener = UnixListener::bind(daemon.socket()).expect("a socket");
        let (answers, requests) = (daemon.answers.clone(), daemon.requests.clone());
        // The thread ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                serve(stream, &answers, &requests);
            }
        });
        daemon
    }

    /// Adds an answer to a path.
    pub fn answer(self, path: &str, status: u16, json: &str) -> Self {
        let mut answers = self.answers.lock().expect("no panic before");
        answers.entry(path.to_owned()).or_default().push((status, json.to_owned()));
        drop(answers);
        self
    }

    /// Directory of the socket, also to run in.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("api.sock")
    }

    /// Body of the last request to a path.
    pub fn asked(&self, path: &str) -> String {
        let requests = self.requests.lock().expect("no panic before");
        let found = requests.iter().rev().find(|(line, _)| line.split(' ').nth(1) == Some(path));
        found.map(|(_, body)| body.clone()).unwrap_or_else(|| panic!("{path} was not asked for"))
    }
}

fn serve(mut stream: UnixStream, answers: &Mutex<Answers>, requests: &Mutex<Vec<(String, String)>>) {
    let mut reader = BufReader::new(stream.try_clone().expect("a socket"));
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        match reader.read_line(&mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) if line == "\r\n" => break,
            Ok(_) => head.push(line.trim_end().to_owned()),
        }
    }
    let len = head.iter().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; len.map_or(0, |len| len.parse().expect("a length"))];
    reader.read_exact(&mut body).expect("a whole body");
    let path = head[0].split(' ').nth(1).expect("a path").to_owned();
    requests.lock().expect("no panic before").push((head[0].clone(), String::from_utf8(body).expect("text")));
    let (status, json) = match answers.lock().expect("no panic before").get_mut(&path) {
        Some(list) if list.len() > 1 => list.remove(0),
        Some(list) => list[0].clone(),
        None => (404, r#"{"schema":"meshd.error/1","code":"not-found","error":"no such path"}"#.to_owned()),
    };
    let head = format!("HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", json.len());
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(json.as_bytes()));
}
