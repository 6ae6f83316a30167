//! Schedules as text: what a run prints when it fails, and what it can be given to play again.
//!
//! ```text
//! # Lines that begin with # are for people.
//! seed 7
//! span-s 60
//! clients 5
//! keys 14
//! at 3.250000 kill node-3 power-cut
//! at 4.000000 boot node-3
//! at 5.500000 drive-weather node-1 0 read_error=30000 dead
//! ```
//! Times are seconds since the faults begin. Chances are in a million; those that are not named are zero.

use super::{Event, Schedule};
use crate::sim::drives::DriveWeather;
use crate::sim::net::Weather;
use crate::sim::world::End;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;
use strongroom_types::{NodeId, ZoneId};

/// A run that is not drawn from its seed alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// Decides all that is not said here.
    pub seed: u64,
    /// How long clients go on.
    pub span: Duration,
    /// How many there are.
    pub clients: usize,
    /// How many keys they use.
    pub keys: usize,
    /// What goes wrong when.
    pub schedule: Schedule,
}

/// Why a text is no schedule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}: {text:?}")]
pub struct ScriptError {
    /// Its line, from 1; 0 is the text as a whole.
    line: usize,
    /// What is wrong.
    what: String,
    /// The line.
    text: String,
}

/// What a kind of event is called.
pub fn kind(event: &Event) -> &'static str {
    match event {
        Event::Kill(..) => "kill",
        Event::KillAtPoll(..) => "kill-at-poll",
        Event::Disarm(_) => "disarm",
        Event::Boot(_) => "boot",
        Event::Pause(_) => "pause",
        Event::Resume(_) => "resume",
        Event::CutZone(_) => "cut-zone",
        Event::Cut(..) => "cut",
        Event::SlowZone(..) => "slow-zone",
        Event::Mute(_) => "mute",
        Event::Mend => "mend",
        Event::Weather(_) => "weather",
        Event::DriveWeather(..) => "drive-weather",
        Event::Erase(..) => "erase",
        Event::Remember(..) => "remember",
        Event::Revert(..) => "revert",
        Event::Rot(..) => "rot",
        Event::EraseState(_) => "erase-state",
        Event::RollBackState(..) => "roll-back-state",
        Event::CorruptState(..) => "corrupt-state",
        Event::BeginDrain(..) => "begin-drain",
        Event::EndDrain(..) => "end-drain",
        Event::Skew(..) => "skew",
        Event::Drift(..) => "drift",
    }
}

/// What is counted of a run: like [`kind`], but the ends of faults are none, and drives say what ails them.
pub fn fault(event: &Event) -> Option<&'static str> {
    match event {
        Event::Disarm(_)
        | Event::Boot(_)
        | Event::Resume(_)
        | Event::Mend
        | Event::Remember(..)
        | Event::EndDrain(..) => None,
        Event::Kill(_, End::Crash) => Some("kill by crash"),
        Event::Kill(_, End::PowerCut) => Some("kill by power cut"),
        Event::Weather(weather) if *weather == Weather::FAIR => None,
        Event::DriveWeather(_, _, weather) if *weather == DriveWeather::FAIR => None,
        Event::DriveWeather(_, _, weather) if weather.dead => Some("drive dead"),
        Event::DriveWeather(..) => Some("drive sick"),
        Event::Skew(_, 0) | Event::Drift(_, 0) => None,
        other => Some(kind(other)),
    }
}

fn end(end: End) -> &'static str {
    match end {
        End::Crash => "crash",
        End::PowerCut => "power-cut",
    }
}

fn network_fields(weather: &mut Weather) -> [(&'static str, &mut u32); 4] {
    let Weather { lost, duplicated, slow, damaged } = weather;
    [("lost", lost), ("duplicated", duplicated), ("slow", slow), ("damaged", damaged)]
}

/// All but `dead`, which is a word of its own.
fn drive_fields(weather: &mut DriveWeather) -> [(&'static str, &mut u32); 12] {
    let DriveWeather {
        read_error,
        write_error,
        flush_error,
        short,
        bad_place,
        burst_count_max,
        lost_write,
        misdirected,
        rot,
        lying_flush,
        slow,
        hangs,
        dead: _,
    } = weather;
    [
        ("read_error", read_error),
        ("write_error", write_error),
        ("flush_error", flush_error),
        ("short", short),
        ("bad_place", bad_place),
        ("burst_count_max", burst_count_max),
        ("lost_write", lost_write),
        ("misdirected", misdirected),
        ("rot", rot),
        ("lying_flush", lying_flush),
        ("slow", slow),
        ("hangs", hangs),
    ]
}

fn write_fields<const N: usize>(
    f: &mut fmt::Formatter<'_>,
    fields: [(&'static str, &mut u32); N],
) -> fmt::Result {
    let set = fields.into_iter().filter(|(_, value)| **value != 0);
    set.into_iter().try_for_each(|(name, value)| write!(f, " {name}={value}"))
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(kind(self))?;
        match self {
            Self::Mend => Ok(()),
            Self::Kill(node, how) => write!(f, " {node} {}", end(*how)),
            Self::KillAtPoll(node, polls, how) => write!(f, " {node} {polls} {}", end(*how)),
            Self::Disarm(node)
            | Self::Boot(node)
            | Self::Pause(node)
            | Self::Resume(node)
            | Self::Mute(node)
            | Self::EraseState(node) => write!(f, " {node}"),
            Self::CutZone(zone) => write!(f, " {zone}"),
            Self::Cut(from, to) => write!(f, " {from} {to}"),
            Self::SlowZone(zone, longer) => write!(f, " {zone} {}", Seconds(*longer)),
            Self::Weather(weather) => write_fields(f, network_fields(&mut weather.clone())),
            Self::DriveWeather(node, drive, weather) => {
                write!(f, " {node} {drive}")?;
                write_fields(f, drive_fields(&mut weather.clone()))?;
                if weather.dead { f.write_str(" dead") } else { Ok(()) }
            }
            Self::Erase(node, drive) | Self::Remember(node, drive) | Self::Revert(node, drive) => {
                write!(f, " {node} {drive}")
            }
            Self::Rot(node, drive, count, seed) => write!(f, " {node} {drive} {count} {seed}"),
            Self::RollBackState(node, batches) => write!(f, " {node} {batches}"),
            Self::CorruptState(node, seed) => write!(f, " {node} {seed}"),
            Self::BeginDrain(node, None) | Self::EndDrain(node, None) => write!(f, " {node}"),
            Self::BeginDrain(node, Some(drive)) | Self::EndDrain(node, Some(drive)) => {
                write!(f, " {node} {drive}")
            }
            Self::Skew(node, skew_ms) => write!(f, " {node} {skew_ms}"),
            Self::Drift(node, parts_per_million) => write!(f, " {node} {parts_per_million}"),
        }
    }
}

/// A time with all its microseconds.
struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.0.as_secs(), self.0.subsec_micros())
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}", self.seed)?;
        writeln!(f, "span-s {}", Seconds(self.span))?;
        writeln!(f, "clients {}", self.clients)?;
        writeln!(f, "keys {}", self.keys)?;
        self.schedule.events.iter().try_for_each(|(at, event)| writeln!(f, "at {} {event}", Seconds(*at)))
    }
}

/// The words of a line, taken one by one.
struct Words<'text>(std::str::SplitWhitespace<'text>);

impl<'text> Words<'text> {
    fn word(&mut self, what: &str) -> Result<&'text str, String> {
        self.0.next().ok_or_else(|| format!("expected {what}"))
    }

    fn number<T: FromStr>(&mut self, what: &str) -> Result<T, String> {
        let word = self.word(what)?;
        word.parse().map_err(|_| format!("expected {what}, found {word:?}"))
    }

    fn id<T: FromStr>(&mut self, prefix: &str) -> Result<T, String> {
        let word = self.word(prefix)?;
        let number = word.strip_prefix(prefix).and_then(|number| number.parse().ok());
        number.ok_or_else(|| format!("expected {prefix}N, found {word:?}"))
    }

    fn node(&mut self) -> Result<NodeId, String> {
        self.id("node-").map(NodeId::new)
    }

    fn zone(&mut self) -> Result<ZoneId, String> {
        self.id("zone-").map(ZoneId::new)
    }

    fn end(&mut self) -> Result<End, String> {
        match self.word("crash or power-cut")? {
            "crash" => Ok(End::Crash),
            "power-cut" => Ok(End::PowerCut),
            other => Err(format!("expected crash or power-cut, found {other:?}")),
        }
    }

    fn seconds(&mut self) -> Result<Duration, String> {
        let word = self.word("seconds")?;
        let (whole, part) = word.split_once('.').unwrap_or((word, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let micros = format!("{part:0<6}");
        match (whole.parse::<u64>(), micros.parse::<u64>()) {
            (Ok(whole), Ok(micros)) if digits(whole_of(word)) && digits(part) && part.len() <= 6 => {
                Ok(Duration::from_secs(whole) + Duration::from_micros(micros))
            }
            _ => Err(format!("expected seconds with at most six decimals, found {word:?}")),
        }
    }

    /// Sets fields by name; gives the words that are none.
    fn fields<const N: usize>(
        &mut self,
        mut fields: [(&'static str, &mut u32); N],
    ) -> Result<Vec<&'text str>, String> {
        let mut others = Vec::new();
        for word in self.0.by_ref() {
            let Some((name, value)) = word.split_once('=') else {
                others.push(word);
                continue;
            };
            let field = fields.iter_mut().find(|(known, _)| *known == name);
            let (_, field) = field.ok_or_else(|| format!("no field is called {name:?}"))?;
            **field = value.parse().map_err(|_| format!("expected {name}=N, found {word:?}"))?;
        }
        Ok(others)
    }

    /// The place of a drive, where one is named.
    fn drive(&mut self) -> Result<Option<usize>, String> {
        let Some(word) = self.0.next() else { return Ok(None) };
        word.parse().map(Some).map_err(|_| format!("expected the drive's place, found {word:?}"))
    }

    fn finish(mut self) -> Result<(), String> {
        self.0.next().map_or(Ok(()), |more| Err(format!("nothing expected after, found {more:?}")))
    }
}

fn whole_of(word: &str) -> &str {
    word.split_once('.').map_or(word, |(whole, _)| whole)
}

impl FromStr for Event {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = Words(text.split_whitespace());
        let event = match words.word("an event")? {
            "kill" => Self::Kill(words.node()?, words.end()?),
            "kill-at-poll" => Self::KillAtPoll(words.node()?, words.number("polls")?, words.end()?),
            "disarm" => Self::Disarm(words.node()?),
            "boot" => Self::Boot(words.node()?),
            "pause" => Self::Pause(words.node()?),
            "resume" => Self::Resume(words.node()?),
            "cut-zone" => Self::CutZone(words.zone()?),
            "cut" => Self::Cut(words.node()?, words.node()?),
            "slow-zone" => Self::SlowZone(words.zone()?, words.seconds()?),
            "mute" => Self::Mute(words.node()?),
            "mend" => Self::Mend,
            "weather" => {
                let mut weather = Weather::default();
                match words.fields(network_fields(&mut weather))?.first() {
                    Some(other) => return Err(format!("expected name=N, found {other:?}")),
                    None => Self::Weather(weather),
                }
            }
            "drive-weather" => {
                let (node, drive) = (words.node()?, words.number("the drive's place")?);
                let mut weather = DriveWeather::default();
                let others = words.fields(drive_fields(&mut weather))?;
                if let Some(other) = others.iter().find(|other| **other != "dead") {
                    return Err(format!("expected name=N or dead, found {other:?}"));
                }
                weather.dead = !others.is_empty();
                Self::DriveWeather(node, drive, weather)
            }
            "erase" => Self::Erase(words.node()?, words.number("the drive's place")?),
            "remember" => Self::Remember(words.node()?, words.number("the drive's place")?),
            "revert" => Self::Revert(words.node()?, words.number("the drive's place")?),
            "rot" => {
                let (node, drive) = (words.node()?, words.number("the drive's place")?);
                Self::Rot(node, drive, words.number("how many bytes")?, words.number("a seed")?)
            }
            "erase-state" => Self::EraseState(words.node()?),
            "roll-back-state" => Self::RollBackState(words.node()?, words.number("batches")?),
            "corrupt-state" => Self::CorruptState(words.node()?, words.number("seed")?),
            "begin-drain" => Self::BeginDrain(words.node()?, words.drive()?),
            "end-drain" => Self::EndDrain(words.node()?, words.drive()?),
            "skew" => Self::Skew(words.node()?, words.number("milliseconds")?),
            "drift" => Self::Drift(words.node()?, words.number("millionths")?),
            other => return Err(format!("no event is called {other:?}")),
        };
        words.finish()?;
        Ok(event)
    }
}

impl FromStr for Script {
    type Err = ScriptError;

    fn from_str(text: &str) -> Result<Self, ScriptError> {
        let (mut seed, mut span, mut clients, mut keys) = (None, None, None, None);
        let mut schedule = Schedule::default();
        for (index, line) in text.lines().enumerate() {
            let wrong = |what: String| ScriptError { line: index + 1, what, text: line.to_owned() };
            let plain = line.trim();
            if plain.is_empty() || plain.starts_with('#') {
                continue;
            }
            let (word, rest) = plain.split_once(char::is_whitespace).unwrap_or((plain, ""));
            let mut words = Words(rest.split_whitespace());
            let count = |what: &str, of: &mut Words<'_>| match of.number::<usize>(what)? {
                0 => Err(format!("expected {what} above 0")),
                count => Ok(count),
            };
            match word {
                "at" => {
                    let at = words.seconds().map_err(&wrong)?;
                    let (_, event) = rest.trim_start().split_once(char::is_whitespace).unwrap_or((rest, ""));
                    if schedule.events.last().is_some_and(|(before, _)| *before > at) {
                        return Err(wrong("earlier than the line before".to_owned()));
                    }
                    schedule.events.push((at, event.parse().map_err(&wrong)?));
                    continue;
                }
                "seed" => seed = Some(words.number("a number").map_err(&wrong)?),
                "span-s" => span = Some(words.seconds().map_err(&wrong)?),
                "clients" => clients = Some(count("a number of clients", &mut words).map_err(&wrong)?),
                "keys" => keys = Some(count("a number of keys", &mut words).map_err(&wrong)?),
                _ => return Err(wrong("expected seed, span-s, clients, keys or at".to_owned())),
            }
            words.finish().map_err(&wrong)?;
        }
        let absent =
            |what: &str| ScriptError { line: 0, what: format!("no line {what}"), text: String::new() };
        Ok(Self {
            seed: seed.ok_or_else(|| absent("seed"))?,
            span: span.ok_or_else(|| absent("span-s"))?,
            clients: clients.ok_or_else(|| absent("clients"))?,
            keys: keys.ok_or_else(|| absent("keys"))?,
            schedule,
        })
    }
}

#[cfg(test)]
mod tests;
