//! XML out and in. Out: elements and escaped text. In: the two documents that clients send.
//!
//! Written here rather than taken from `s3s::xml`, because that one drops CDATA (a key in CDATA arrives empty) and
//! writes carriage returns and control characters of keys raw, so that a parser gives back another key.

use crate::error::{DoorError, DoorResult, ErrorCode};
use crate::limits::{XML_DEPTH_MAX, XML_ELEMENTS_MAX};
use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::Event;
use std::fmt::Write as _;

/// The namespace of S3's answers.
pub const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";

/// A document that is being written.
pub struct XmlWriter {
    out: String,
}

impl XmlWriter {
    /// A document that is `<root xmlns="…">` with what `content` writes.
    pub fn document(root: &str, content: impl FnOnce(&mut Self)) -> String {
        let mut writer = Self { out: String::with_capacity(512) };
        writer.out.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        let _ = write!(writer.out, "<{root} xmlns=\"{NAMESPACE}\">");
        content(&mut writer);
        let _ = write!(writer.out, "</{root}>");
        writer.out
    }

    /// The same without a namespace, as S3 writes errors.
    pub fn document_bare(root: &str, content: impl FnOnce(&mut Self)) -> String {
        let mut writer = Self { out: String::with_capacity(512) };
        writer.out.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        writer.element(root, content);
        writer.out
    }

    /// `<name>…</name>` with what `content` writes.
    pub fn element(&mut self, name: &str, content: impl FnOnce(&mut Self)) {
        let _ = write!(self.out, "<{name}>");
        content(self);
        let _ = write!(self.out, "</{name}>");
    }

    /// `<name>text</name>`.
    pub fn text(&mut self, name: &str, text: &str) {
        self.element(name, |writer| writer.escaped(text));
    }

    /// Text between the tags of the element that is open.
    pub fn content(&mut self, text: &str) {
        self.escaped(text);
    }

    /// Raw markup that the caller wrote itself.
    pub fn raw(&mut self, markup: &str) {
        self.out.push_str(markup);
    }

    /// Text. What a parser would change or refuse goes as a character reference; XML 1.0 knows none for most control
    /// characters, but S3 writes them so too, and clients that meet such keys ask for `encoding-type=url`.
    fn escaped(&mut self, text: &str) {
        for character in text.chars() {
            match character {
                '<' => self.out.push_str("&lt;"),
                '>' => self.out.push_str("&gt;"),
                '&' => self.out.push_str("&amp;"),
                '"' => self.out.push_str("&quot;"),
                '\t' | '\n' => self.out.push(character),
                '\u{0}'..='\u{1f}' | '\u{7f}' | '\u{fffe}' | '\u{ffff}' => {
                    let _ = write!(self.out, "&#x{:X};", u32::from(character));
                }
                other => self.out.push(other),
            }
        }
    }
}

/// One element of a document that was read: its name without prefix, its text, its elements.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Element {
    /// The name without namespace prefix.
    pub name: String,
    /// The text directly inside.
    pub text: String,
    /// The elements directly inside.
    pub children: Vec<Element>,
}

impl Element {
    /// The text of the first element of this name.
    pub fn child_text(&self, name: &str) -> Option<&str> {
        self.children.iter().find(|child| child.name == name).map(|child| child.text.as_str())
    }
}

/// Reads a document.
///
/// # Errors
/// `MalformedXML` for anything that is not one well-formed element, is nested too deeply, or has a document type.
pub fn parse(document: &[u8]) -> DoorResult<Element> {
    let malformed = |what: &str| {
        DoorError::new(
            ErrorCode::MalformedXML,
            format!(
                "The XML you provided was not well-formed or did not validate against our published schema: {what}."
            ),
        )
    };
    let text = std::str::from_utf8(document).map_err(|_| malformed("not UTF-8"))?;
    let mut reader = Reader::from_str(text);
    let mut open: Vec<Element> = Vec::new();
    let mut root = None;
    let mut elements = 0;
    loop {
        let event = reader.read_event().map_err(|error| malformed(&error.to_string()))?;
        let push_text = |part: &str, open: &mut Vec<Element>| match open.last_mut() {
            Some(element) => {
                element.text.push_str(part);
                Ok(())
            }
            None if part.trim().is_empty() => Ok(()),
            None => Err(malformed("text outside of the root element")),
        };
        match event {
            Event::Start(ref start) | Event::Empty(ref start) => {
                if root.is_some() {
                    return Err(malformed("more than one root element"));
                }
                if open.len() == XML_DEPTH_MAX {
                    return Err(malformed("nested too deeply"));
                }
                elements += 1;
                if elements > XML_ELEMENTS_MAX {
                    return Err(malformed("too many elements"));
                }
                let name = String::from_utf8_lossy(start.local_name().as_ref()).into_owned();
                open.push(Element { name, ..Element::default() });
                if matches!(event, Event::Empty(_)) {
                    root = close(&mut open);
                }
            }
            // The reader has checked that the name is the open element's.
            Event::End(_) => root = close(&mut open),
            Event::Text(part) => {
                push_text(&part.xml10_content().map_err(|error| malformed(&error.to_string()))?, &mut open)?
            }
            Event::CData(part) => {
                push_text(&part.xml10_content().map_err(|error| malformed(&error.to_string()))?, &mut open)?
            }
            Event::GeneralRef(reference) => {
                let resolved = reference.resolve_char_ref().map_err(|error| malformed(&error.to_string()))?;
                let name = reference.decode().map_err(|error| malformed(&error.to_string()))?;
                match (resolved, resolve_predefined_entity(&name)) {
                    (Some(character), _) => push_text(character.encode_utf8(&mut [0; 4]), &mut open)?,
                    (None, Some(entity)) => push_text(entity, &mut open)?,
                    (None, None) => return Err(malformed("unknown entity")),
                }
            }
            Event::DocType(_) => return Err(malformed("document types are refused")),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
            Event::Eof => break,
        }
    }
    if !open.is_empty() {
        return Err(malformed("an element is not closed"));
    }
    root.ok_or_else(|| malformed("no element"))
}

/// Closes the innermost element; gives the root once that was it.
fn close(open: &mut Vec<Element>) -> Option<Element> {
    let element = open.pop()?;
    match open.last_mut() {
        Some(parent) => {
            parent.children.push(element);
            None
        }
        None => Some(element),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_in_every_dress_is_read() {
        let document = "<?xml version=\"1.0\"?><!-- c --><Delete xmlns=\"x\"><Quiet>true</Quiet>\
            <Object><Key>a&amp;b&#x20;&#13;c</Key></Object><s:Object><Key><![CDATA[<d>]]></Key></s:Object><Object/></Delete>";
        let root = parse(document.as_bytes()).unwrap();
        assert_eq!(root.name, "Delete");
        assert_eq!(root.child_text("Quiet"), Some("true"));
        let keys: Vec<_> = root.children[1..].iter().map(|object| object.child_text("Key")).collect();
        assert_eq!(keys, [Some("a&b \rc"), Some("<d>"), None]);
    }

    #[test]
    fn elements_are_bounded() {
        let document = |count: usize| format!("<r>{}</r>", "<a/>".repeat(count - 1));
        assert!(parse(document(XML_ELEMENTS_MAX).as_bytes()).is_ok());
        assert!(parse(document(XML_ELEMENTS_MAX + 1).as_bytes()).is_err());
    }

    #[test]
    fn broken_documents_are_refused() {
        let deep = |depth: usize| format!("{}{}", "<a>".repeat(depth), "</a>".repeat(depth));
        assert!(parse(deep(XML_DEPTH_MAX).as_bytes()).is_ok());
        let too_deep = deep(XML_DEPTH_MAX + 1);
        for bad in [
            "",
            "x",
            "<a>",
            "<a></b>",
            "</a>",
            "<a/><b/>",
            "<a/>x",
            "<a>&nope;</a>",
            "<a>&#0;</a>",
            "<!DOCTYPE a [<!ENTITY b \"c\">]><a>&b;</a>",
            too_deep.as_str(),
        ] {
            let error = parse(bad.as_bytes()).expect_err(bad);
            assert_eq!(error.code, ErrorCode::MalformedXML, "{bad}");
        }
        assert!(parse(b"<a>\xff</a>").is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(text in "[^\u{0}]*") {
            let document = XmlWriter::document("R", |writer| writer.text("T", &text));
            let root = parse(document.as_bytes()).unwrap();
            prop_assert_eq!(root.child_text("T"), Some(text.as_str()));
        }

        #[test]
        fn any_bytes_are_taken_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = parse(&bytes);
        }
    }
}
