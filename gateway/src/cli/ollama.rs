//! Is there an Ollama on this machine, and which models does it have?
//!
//! Asked only where there is no configuration file. Loopback answers or refuses at once, so one
//! short look costs nothing where there is none. One request of HTTP/1.0, which ends with the
//! connection and is never chunked, needs no HTTP client.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde::Deserialize;
use stellwerk_core::config::check::Ollama;
use stellwerk_core::config::check::found::OLLAMA_URL;

const LIMIT: Duration = Duration::from_millis(300);
const USUAL: ([u8; 4], u16) = ([127, 0, 0, 1], 11434);

/// A list of models is some kilobytes; more is no Ollama.
const MAX_ANSWER_BYTES: u64 = 1 << 20;

#[derive(Debug, Deserialize)]
struct Tags {
    models: Vec<Tag>,
}

#[derive(Debug, Deserialize)]
struct Tag {
    name: String,
}

/// The Ollama on its usual port, if one answers there.
pub fn ask() -> Option<Ollama> {
    // Whoever listens there and does not speak Ollama's language is none, and so is nobody.
    let answer = get(SocketAddr::from(USUAL)).ok()?;
    Some(Ollama { base_url: OLLAMA_URL.to_owned(), models: models(&answer)? })
}

fn get(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    stream.write_all(b"GET /api/tags HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(MAX_ANSWER_BYTES).read_to_string(&mut answer)?;
    Ok(answer)
}

fn models(answer: &str) -> Option<Vec<String>> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split_ascii_whitespace().nth(1)?;
    let tags: Tags = serde_json::from_str(body).ok()?;
    (status == "200").then(|| tags.models.into_iter().map(|tag| tag.name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_read_from_an_ollama_and_from_nobody_else() {
        let answer = "HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{\"models\":[{\"name\":\"qwen3:8b\",\"size\":1}]}";
        assert_eq!(models(answer), Some(vec!["qwen3:8b".to_owned()]));
        assert_eq!(models("HTTP/1.0 404 Not Found\r\n\r\n{\"models\":[]}"), None);
        assert_eq!(models("HTTP/1.0 200 OK\r\n\r\n<html>"), None);
        assert_eq!(models("garbage"), None);
    }
}
