//! Writes a message of an exact length: RFC 5322 headers, MIME parts, CRLF, lines of at most 78 bytes.

use super::super::limits::GENERATED_LEN_BYTES_MIN;
use super::draw::{Draw, Kind};
use std::fmt::Write;

const WORDS: [&str; 96] = [
    "about",
    "account",
    "after",
    "again",
    "all",
    "also",
    "and",
    "answer",
    "any",
    "are",
    "as",
    "at",
    "attached",
    "back",
    "be",
    "before",
    "best",
    "call",
    "can",
    "change",
    "check",
    "could",
    "customer",
    "date",
    "day",
    "delivery",
    "document",
    "early",
    "email",
    "find",
    "first",
    "for",
    "forward",
    "from",
    "further",
    "has",
    "have",
    "help",
    "here",
    "if",
    "in",
    "information",
    "invoice",
    "is",
    "it",
    "just",
    "know",
    "last",
    "let",
    "like",
    "list",
    "look",
    "make",
    "march",
    "may",
    "meeting",
    "more",
    "need",
    "new",
    "next",
    "no",
    "not",
    "note",
    "number",
    "of",
    "office",
    "on",
    "one",
    "order",
    "our",
    "out",
    "please",
    "project",
    "question",
    "regards",
    "report",
    "review",
    "see",
    "send",
    "should",
    "some",
    "team",
    "thanks",
    "that",
    "the",
    "there",
    "this",
    "time",
    "to",
    "update",
    "was",
    "we",
    "week",
    "will",
    "with",
    "your",
];
const NAMES: [&str; 16] = [
    "alice", "bob", "carol", "dan", "erin", "frank", "grace", "heidi", "ivan", "judy", "mallory", "niaj",
    "olivia", "peggy", "rupert", "sybil",
];
const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const FILES: [(&str, &str); 4] = [
    ("application/pdf", "invoice.pdf"),
    ("image/jpeg", "photo.jpg"),
    ("application/zip", "report.zip"),
    ("application/octet-stream", "data.bin"),
];
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// Characters of a full line of base64, and its bytes with CRLF (RFC 2045, 6.8).
const BASE64_LINE_CHARACTERS: usize = 76;
const BASE64_LINE_LEN_BYTES: usize = BASE64_LINE_CHARACTERS + 2;
/// Bytes of text that go with attachments or into the plain alternative of HTML, at least.
const TEXT_LEN_BYTES_MIN: usize = 256;
/// Lines of each pool: some 270 KB of text, more than most mails hold, so that a mail seldom repeats itself.
const POOL_LINES: usize = 4096;

/// Lines that bodies are filled with. The same for every seed; which lines a mail takes is drawn.
pub(super) struct Filler {
    text: Vec<String>,
    html: Vec<String>,
}

impl Filler {
    pub(super) fn new() -> Self {
        let mut draw = Draw::new(0, 0);
        let text = (0..POOL_LINES).map(|_| words(&mut draw, 60, 76)).collect();
        let html = (0..POOL_LINES)
            .map(|_| {
                let width = draw.below(90) + 10;
                let inner = words(&mut draw, 20, 40);
                format!("<tr><td class=\"c{}\" width=\"{width}%\">{inner}</td></tr>", draw.below(9))
            })
            .collect();
        Self { text, html }
    }
}

/// Words and spaces of a length between the two, not ending in a space.
fn words(draw: &mut Draw, len_bytes_min: usize, len_bytes_max: usize) -> String {
    let mut line = draw.pick(&WORDS).to_owned();
    while line.len() < len_bytes_min {
        let word = draw.pick(&WORDS);
        if line.len() + 1 + word.len() > len_bytes_max {
            break;
        }
        line.push(' ');
        line.push_str(word);
    }
    line
}

/// A message of `len_bytes` bytes. Where a kind's parts do not fit into so few, it is plain text.
pub(super) fn message(filler: &Filler, draw: &mut Draw, kind: Kind, index: u64, len_bytes: usize) -> Vec<u8> {
    assert!(len_bytes >= GENERATED_LEN_BYTES_MIN);
    let mut out = Vec::with_capacity(len_bytes);
    let boundary = format!("=_{:016x}", draw.u64());
    push(&mut out, &headers(draw, index));
    match kind {
        Kind::Html if len_bytes >= 4 * GENERATED_LEN_BYTES_MIN => {
            html_body(filler, draw, &mut out, &boundary, len_bytes);
        }
        Kind::Files if len_bytes >= 4 * GENERATED_LEN_BYTES_MIN => {
            files_body(filler, draw, &mut out, &boundary, len_bytes);
        }
        Kind::Text | Kind::Html | Kind::Files => {
            push(
                &mut out,
                "Content-Type: text/plain; charset=us-ascii\r\nContent-Transfer-Encoding: 7bit\r\n\r\n",
            );
            let left = len_bytes - out.len();
            fill(&filler.text, filler, draw, &mut out, left);
        }
    }
    out
}

fn push(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

fn headers(draw: &mut Draw, index: u64) -> String {
    let (from, to) = (draw.pick(&NAMES), draw.pick(&NAMES));
    let (from_number, to_number) = (draw.below(500), draw.below(500));
    let day = draw.below(31);
    let date = format!(
        "{}, {:02} Jan 2026 {:02}:{:02}:{:02} +0000",
        WEEKDAYS[day % 7],
        day + 1,
        draw.below(24),
        draw.below(60),
        draw.below(60)
    );
    let id = draw.u64();
    let mut head = format!("Return-Path: <{from}{from_number}@example.com>\r\n");
    for hop in 0..draw.below(3) {
        write!(
            head,
            "Received: from mx{hop}.example.com (mx{hop}.example.com [192.0.2.{}])\r\n\tby mail.example.net with ESMTPS \
             id {:012x};\r\n\t{date}\r\n",
            draw.below(254) + 1,
            draw.u64() >> 16
        )
        .expect("a String takes all that is written");
    }
    let subject = words(draw, 12, 60);
    write!(
        head,
        "Date: {date}\r\nFrom: {from} <{from}{from_number}@example.com>\r\nTo: {to} <{to}{to_number}@example.net>\r\n\
         Subject: {subject}\r\nMessage-ID: <{index}.{id:016x}@example.com>\r\nMIME-Version: 1.0\r\n"
    )
    .expect("a String takes all that is written");
    head
}

fn html_body(filler: &Filler, draw: &mut Draw, out: &mut Vec<u8>, boundary: &str, len_bytes: usize) {
    push(
        out,
        &format!(
            "Content-Type: multipart/alternative; boundary=\"{boundary}\"\r\n\r\n--{boundary}\r\n\
             Content-Type: text/plain; charset=us-ascii\r\n\r\n"
        ),
    );
    let text_len_bytes = TEXT_LEN_BYTES_MIN + draw.below(len_bytes / 8);
    fill(&filler.text, filler, draw, out, text_len_bytes);
    push(
        out,
        &format!(
            "--{boundary}\r\nContent-Type: text/html; charset=us-ascii\r\nContent-Transfer-Encoding: 7bit\r\n\r\n\
             <html><body><table>\r\n"
        ),
    );
    let end = format!("</table></body></html>\r\n--{boundary}--\r\n");
    let left = len_bytes - end.len() - out.len();
    fill(&filler.html, filler, draw, out, left);
    push(out, &end);
}

fn files_body(filler: &Filler, draw: &mut Draw, out: &mut Vec<u8>, boundary: &str, len_bytes: usize) {
    push(
        out,
        &format!(
            "Content-Type: multipart/mixed; boundary=\"{boundary}\"\r\n\r\n--{boundary}\r\n\
             Content-Type: text/plain; charset=us-ascii\r\n\r\n"
        ),
    );
    let count = if len_bytes < 64 * 1024 { 1 } else { 1 + draw.below(3) };
    let heads: Vec<String> = (0..count)
        .map(|number| {
            let (media, name) = FILES[draw.below(FILES.len())];
            format!(
                "--{boundary}\r\nContent-Type: {media}\r\nContent-Transfer-Encoding: base64\r\n\
                 Content-Disposition: attachment; filename=\"{number}-{name}\"\r\n\r\n"
            )
        })
        .collect();
    let end = format!("--{boundary}--\r\n");
    let fixed_len_bytes = out.len() + heads.iter().map(String::len).sum::<usize>() + end.len();
    // Attachments are whole lines of base64; the text before them takes what is over, to the byte.
    let lines = (len_bytes - fixed_len_bytes - TEXT_LEN_BYTES_MIN) / BASE64_LINE_LEN_BYTES;
    fill(&filler.text, filler, draw, out, len_bytes - fixed_len_bytes - lines * BASE64_LINE_LEN_BYTES);
    for (number, head) in heads.iter().enumerate() {
        push(out, head);
        let lines_before = lines * number / count;
        base64_lines(draw, out, lines * (number + 1) / count - lines_before);
    }
    push(out, &end);
}

fn base64_lines(draw: &mut Draw, out: &mut Vec<u8>, count: usize) {
    for _ in 0..count {
        let mut line = [b'\n'; BASE64_LINE_LEN_BYTES];
        line[BASE64_LINE_CHARACTERS] = b'\r';
        // One number of 64 bits gives ten characters of 6.
        for characters in line[..BASE64_LINE_CHARACTERS].chunks_mut(10) {
            let mut bits = draw.u64();
            for character in characters {
                *character = BASE64[(bits & 63) as usize];
                bits >>= 6;
            }
        }
        out.extend_from_slice(&line);
    }
}

/// Exactly `len_bytes` (not 1) bytes of lines with CRLF: lines of `pool`, and a last one cut from the text pool, whose lines
/// can be cut anywhere.
fn fill(pool: &[String], filler: &Filler, draw: &mut Draw, out: &mut Vec<u8>, len_bytes: usize) {
    assert_ne!(len_bytes, 1, "the shortest line is CRLF");
    let mut left = len_bytes;
    while left > 0 {
        let line = pool[draw.below(pool.len())].as_bytes();
        let line_len_bytes = line.len() + 2;
        if left == line_len_bytes || left >= line_len_bytes + 2 {
            out.extend_from_slice(line);
            left -= line_len_bytes;
        } else {
            let text = filler.text[draw.below(POOL_LINES)].bytes().cycle();
            out.extend(text.take(left - 2));
            left = 0;
        }
        out.extend_from_slice(b"\r\n");
    }
}
