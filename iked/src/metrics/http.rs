//! As much of HTTP/1.1 as a scraper needs: one GET, one answer, the end.

use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

/// How long a scraper may take in all.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// Longest request head.
const MAX_HEAD: usize = 8 << 10;
/// What `prometheus-client` writes.
const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Answers the one request of a connection. What goes wrong with it is the scraper's business.
pub(super) async fn answer<S, F>(mut stream: S, metrics: impl FnOnce() -> F)
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Future<Output = String>,
{
    let exchange = async {
        let head = head(&mut stream).await?;
        let (status, kind, body) = match target(&head) {
            Some("/metrics") => ("200 OK", TYPE, metrics().await),
            Some(_) => ("404 Not Found", "text/plain", "metrics are at /metrics\n".to_owned()),
            None => ("405 Method Not Allowed", "text/plain", "GET only\n".to_owned()),
        };
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.ok()?;
        stream.write_all(body.as_bytes()).await.ok()?;
        stream.shutdown().await.ok()
    };
    if timeout(PATIENCE, exchange).await.is_err() {
        tracing::debug!("a scraper took too long");
    }
}

/// The request head; `None`: too long, or the end before it.
async fn head<S: AsyncRead + Unpin>(stream: &mut S) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    let mut chunk = [0; 1024];
    while !head.windows(4).any(|w| w == b"\r\n\r\n") {
        let n = stream.read(&mut chunk).await.ok().filter(|n| *n > 0)?;
        head.extend_from_slice(&chunk[..n]);
        if head.len() > MAX_HEAD {
            return None;
        }
    }
    Some(head)
}

/// What a GET asks for, without its query; `None`: it is no GET of HTTP/1.
fn target(head: &[u8]) -> Option<&str> {
    let line = std::str::from_utf8(head.split(|b| *b == b'\r').next()?).ok()?;
    let mut words = line.split(' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    let path = target.split('?').next().unwrap_or(target);
    (method == "GET" && version.starts_with("HTTP/1.")).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn asked(request: &[u8]) -> String {
        let (mut near, far) = tokio::io::duplex(1 << 16);
        near.write_all(request).await.unwrap();
        let served = tokio::spawn(answer(far, || async { "a 1\n# EOF\n".to_owned() }));
        // Who says nothing more is not waited for.
        near.shutdown().await.unwrap();
        let mut answer = String::new();
        near.read_to_string(&mut answer).await.unwrap();
        served.await.unwrap();
        answer
    }

    #[tokio::test]
    async fn a_get_has_its_answer_and_nothing_else_has_one() {
        let ok = asked(b"GET /metrics?x=1 HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(ok.starts_with("HTTP/1.1 200 OK\r\n") && ok.ends_with("\r\n\r\na 1\n# EOF\n"), "{ok}");
        assert!(ok.contains("Content-Length: 10\r\n"), "{ok}");
        assert!(asked(b"GET / HTTP/1.0\r\n\r\n").await.starts_with("HTTP/1.1 404"));
        for wrong in [&b"POST /metrics HTTP/1.1\r\n\r\n"[..], b"GET /metrics\r\n\r\n", b"\xff\xff \r\n\r\n"] {
            assert!(asked(wrong).await.starts_with("HTTP/1.1 405"));
        }
        assert_eq!(asked(b"GET /metrics HTTP/1.1\r\n").await, "", "no end of the head");
        assert_eq!(asked(&vec![b'x'; MAX_HEAD * 2]).await, "", "too long a head");
    }

    #[tokio::test(start_paused = true)]
    async fn t53_a_scraper_that_says_nothing_is_left() {
        let (_near, far) = tokio::io::duplex(64);
        let begun = tokio::time::Instant::now();
        answer(far, || async { String::new() }).await;
        assert_eq!(begun.elapsed(), PATIENCE);
    }
}
