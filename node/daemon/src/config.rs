//! `node.toml`: what a node is told about itself and its cluster, checked once, here.
//!
//! Every error names the file, the line, the field and what was expected. Relative paths are taken from the folder
//! that the file is in, so that a node's folder can be moved whole.

mod policy;

pub use policy::{BackgroundPolicy, Budget, SlabPolicy};

use serde::Deserialize;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::Duration;
use strongroom_types::limits::{GROUPS_MAX, NODES_MAX, SLAB_LEN_BYTES_MAX, ZONES_MAX};
use strongroom_types::units::BLOCK_LEN_BYTES;
use strongroom_types::{ClusterId, NodeId, ZoneId};
use toml::Spanned;

pub use strongroom_types::Member;

#[cfg(test)]
mod tests;

/// A checked configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The cluster.
    pub cluster: ClusterId,
    /// Data groups; the same on all nodes, fixed when the cluster is made.
    pub groups: u16,
    /// This node.
    pub node: NodeId,
    /// The nodes that it is told of, this one included, by id: those that found the cluster, or, where it joins, some of those that are there.
    pub members: Vec<Member>,
    /// The cluster exists, and this node joins it: it founds nothing.
    pub joins: bool,
    /// Raft log and state machine.
    pub state_dir: PathBuf,
    /// The drives, in the order given.
    pub drives: Vec<PathBuf>,
    /// Runtime threads; drive i belongs to thread i modulo this.
    pub threads: usize,
    /// S3 over HTTP.
    pub s3_listen: SocketAddr,
    /// The control socket.
    pub control_socket: PathBuf,
    /// Metrics and health over TCP, where that is wanted.
    pub metrics_listen: Option<SocketAddr>,
    /// The S3 key pair.
    pub credentials: Credentials,
    /// Slab policy.
    pub slab: SlabPolicy,
    /// How fast background work goes.
    pub background: BackgroundPolicy,
}

/// An S3 key pair.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Public half.
    pub access_key: String,
    /// Secret half.
    pub secret_key: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("access_key", &self.access_key).finish_non_exhaustive()
    }
}

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("{path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Not TOML, a missing or unknown field, or a value of the wrong kind.
    #[error("{path}:{line}: {field}{message}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// The field on that line, with ": ", where there is one.
        field: String,
        /// What was wrong and what was expected.
        message: String,
    },
    /// A value that cannot be.
    #[error("{path}:{line}: {field}: found {found}, expected {expected}")]
    Value {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// The field.
        field: &'static str,
        /// As written.
        found: String,
        /// What may stand there.
        expected: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    cluster: ClusterSection,
    node: NodeSection,
    credentials: CredentialsSection,
    #[serde(default)]
    slab: SlabSection,
    #[serde(default)]
    background: BackgroundSection,
    member: Vec<MemberSection>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClusterSection {
    id: Spanned<String>,
    groups: Spanned<u16>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeSection {
    id: Spanned<u64>,
    #[serde(default)]
    joins: bool,
    state_dir: PathBuf,
    drives: Spanned<Vec<PathBuf>>,
    s3_listen: SocketAddr,
    control_socket: PathBuf,
    metrics_listen: Option<SocketAddr>,
    threads: Option<Spanned<usize>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CredentialsSection {
    access_key: Spanned<String>,
    secret_key: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MemberSection {
    id: Spanned<u64>,
    zone: u8,
    address: SocketAddr,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct SlabSection {
    len_bytes_max: Option<Spanned<u32>>,
    age_ms_max: Option<Spanned<u64>>,
    convert_after_ms: Option<u64>,
    compact_after_ms: Option<u64>,
    free_after_ms: Option<u64>,
    repair_after_ms: Option<Spanned<u64>>,
    reconcile_every_ms: Option<Spanned<u64>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct BackgroundSection {
    scrub_period_ms: Option<Spanned<u64>>,
    parity_period_ms: Option<Spanned<u64>>,
    yield_to_foreground: Option<bool>,
    repair_bytes_per_s: Option<Spanned<u64>>,
    repair_operations_per_s: Option<Spanned<u64>>,
    repair_far_bytes_per_s: Option<Spanned<u64>>,
}

/// Shorter, nothing that takes a period could end in its time.
const PERIOD_MS_MIN: u64 = 1000;
/// Bytes of a slab at least: below two full rows a slab would be sealed before it is worth a record.
const SLAB_LEN_BYTES_MIN: u32 = 8 << 20;
/// Milliseconds that a slab may be open at least: below, every row would get a slab of its own.
const SLAB_AGE_MS_MIN: u64 = 1000;
/// Longer than a node may be silent without being down.
const REPAIR_AFTER_MS_MIN: u64 = 10_000;
const RECONCILE_EVERY_MS_MIN: u64 = 1000;
/// Characters of a secret key at least.
const SECRET_KEY_LEN_MIN: usize = 8;
/// Runtime threads at most.
const THREADS_MAX: usize = 64;

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// See [`ConfigError`]; nothing was changed.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        Self::parse(path, &text)
    }

    /// Checks `text`; `path` is for messages and for relative paths.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let file: File = toml::from_str(text).map_err(|error| syntax_error(path, text, &error))?;
        let checker = Checker { path, text };
        let base = path.parent().unwrap_or(Path::new("."));

        let id = &file.cluster.id;
        let cluster = u128::from_str_radix(id.get_ref(), 16)
            .ok()
            .filter(|_| id.get_ref().len() == 32)
            .ok_or_else(|| checker.value(id, "cluster.id", "32 hexadecimal digits"))?;
        let groups = checker.within(&file.cluster.groups, "cluster.groups", 1, GROUPS_MAX)?;
        let members = check_members(&checker, &file.member, file.node.joins)?;
        let node = NodeId::new(*file.node.id.get_ref());
        if !members.iter().any(|member| member.node == node) {
            return Err(checker.value(&file.node.id, "node.id", "the id of one of the [[member]] entries"));
        }
        let drives = file.node.drives.get_ref();
        if drives.len() > strongroom_types::limits::DRIVES_PER_NODE_MAX {
            return Err(checker.error(&file.node.drives, "node.drives", drives.len(), "at most 32 paths"));
        }
        if drives.iter().collect::<BTreeSet<_>>().len() != drives.len() {
            return Err(checker.error(&file.node.drives, "node.drives", "a path twice", "each path once"));
        }
        let threads = match &file.node.threads {
            Some(threads) => checker.within(threads, "node.threads", 1, THREADS_MAX)?,
            None => 1,
        };
        let secret = &file.credentials.secret_key;
        if secret.get_ref().len() < SECRET_KEY_LEN_MIN {
            return Err(checker.error(
                secret,
                "credentials.secret_key",
                "a shorter one",
                "8 or more characters",
            ));
        }
        let access = &file.credentials.access_key;
        if access.get_ref().is_empty() {
            return Err(checker.value(access, "credentials.access_key", "at least one character"));
        }
        Ok(Self {
            cluster: ClusterId::new(cluster),
            groups,
            node,
            members,
            joins: file.node.joins,
            state_dir: base.join(&file.node.state_dir),
            drives: drives.iter().map(|drive| base.join(drive)).collect(),
            threads,
            s3_listen: file.node.s3_listen,
            control_socket: base.join(&file.node.control_socket),
            metrics_listen: file.node.metrics_listen,
            credentials: Credentials {
                access_key: access.get_ref().clone(),
                secret_key: secret.get_ref().clone(),
            },
            slab: check_slab(&checker, &file.slab)?,
            background: check_background(&checker, &file.background)?,
        })
    }

    /// This node's own entry among the members.
    pub fn own(&self) -> &Member {
        self.members.iter().find(|member| member.node == self.node).expect("checked when the file was read")
    }
}

/// Who founds a cluster names all that do; who joins one, itself and at least one other.
fn check_members(
    checker: &Checker<'_>,
    sections: &[MemberSection],
    joins: bool,
) -> Result<Vec<Member>, ConfigError> {
    let mut members: Vec<Member> = Vec::with_capacity(sections.len());
    for section in sections {
        let node = NodeId::new(*section.id.get_ref());
        if node.get() == 0 || members.iter().any(|member| member.node == node) {
            return Err(checker.value(&section.id, "member.id", "a number above 0 that no other member has"));
        }
        members.push(Member { node, zone: ZoneId::new(section.zone), address: section.address });
    }
    members.sort_by_key(|member| member.node);
    let zones: BTreeSet<ZoneId> = members.iter().map(|member| member.zone).collect();
    let (nodes_min, zones_min) = if joins { (2, 1) } else { (3, 3) };
    let is_enough = members.len() >= nodes_min && zones.len() >= zones_min;
    if !is_enough || members.len() > NODES_MAX || zones.len() > ZONES_MAX {
        let found = format!("{} nodes in {} zones", members.len(), zones.len());
        let last = sections.last().map(|section| section.id.span()).unwrap_or(0..0);
        return Err(ConfigError::Value {
            path: checker.path.to_owned(),
            line: line_of(checker.text, last.start),
            field: "member",
            found,
            expected: format!("{nodes_min} to {NODES_MAX} nodes in {zones_min} to {ZONES_MAX} zones"),
        });
    }
    Ok(members)
}

fn check_slab(checker: &Checker<'_>, section: &SlabSection) -> Result<SlabPolicy, ConfigError> {
    let default = SlabPolicy::default();
    let millis = |given: Option<u64>, otherwise: Duration| given.map_or(otherwise, Duration::from_millis);
    if let Some(len) = &section.len_bytes_max
        && !len.get_ref().is_multiple_of(BLOCK_LEN_BYTES)
    {
        return Err(checker.value(len, "slab.len_bytes_max", format!("a multiple of {BLOCK_LEN_BYTES}")));
    }
    Ok(SlabPolicy {
        len_bytes_max: match &section.len_bytes_max {
            Some(len) => checker.within(len, "slab.len_bytes_max", SLAB_LEN_BYTES_MIN, SLAB_LEN_BYTES_MAX)?,
            None => default.len_bytes_max,
        },
        age_max: match &section.age_ms_max {
            Some(age) => {
                Duration::from_millis(checker.within(age, "slab.age_ms_max", SLAB_AGE_MS_MIN, u64::MAX)?)
            }
            None => default.age_max,
        },
        convert_after: millis(section.convert_after_ms, default.convert_after),
        compact_after: millis(section.compact_after_ms, default.compact_after),
        free_after: millis(section.free_after_ms, default.free_after),
        repair_after: match &section.repair_after_ms {
            Some(after) => {
                let after = checker.within(after, "slab.repair_after_ms", REPAIR_AFTER_MS_MIN, u64::MAX)?;
                Duration::from_millis(after)
            }
            None => default.repair_after,
        },
        reconcile_every: match &section.reconcile_every_ms {
            Some(every) => Duration::from_millis(checker.within(
                every,
                "slab.reconcile_every_ms",
                RECONCILE_EVERY_MS_MIN,
                u64::MAX,
            )?),
            None => default.reconcile_every,
        },
    })
}

fn check_background(
    checker: &Checker<'_>,
    section: &BackgroundSection,
) -> Result<BackgroundPolicy, ConfigError> {
    let default = BackgroundPolicy::default();
    let period = |value: &Option<Spanned<u64>>, field, default| match value {
        Some(value) => checker.within(value, field, PERIOD_MS_MIN, u64::MAX).map(Duration::from_millis),
        None => Ok(default),
    };
    let limit = |value: &Option<Spanned<u64>>, field| match value {
        Some(value) => checker.within(value, field, 1, u64::MAX).map(NonZeroU64::new),
        None => Ok(None),
    };
    let repair = Budget {
        bytes_per_second: limit(&section.repair_bytes_per_s, "background.repair_bytes_per_s")?,
        operations_per_second: limit(&section.repair_operations_per_s, "background.repair_operations_per_s")?,
        far_bytes_per_second: limit(&section.repair_far_bytes_per_s, "background.repair_far_bytes_per_s")?,
    };
    Ok(BackgroundPolicy {
        scrub_period: period(&section.scrub_period_ms, "background.scrub_period_ms", default.scrub_period)?,
        parity_period: period(
            &section.parity_period_ms,
            "background.parity_period_ms",
            default.parity_period,
        )?,
        yields: section.yield_to_foreground.unwrap_or(default.yields),
        repair,
    })
}

/// Builds errors that point into the file.
struct Checker<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Checker<'_> {
    fn error<T>(
        &self,
        at: &Spanned<T>,
        field: &'static str,
        found: impl ToString,
        expected: impl Into<String>,
    ) -> ConfigError {
        ConfigError::Value {
            path: self.path.to_owned(),
            line: line_of(self.text, at.span().start),
            field,
            found: found.to_string(),
            expected: expected.into(),
        }
    }

    fn value<T: ToString>(
        &self,
        at: &Spanned<T>,
        field: &'static str,
        expected: impl Into<String>,
    ) -> ConfigError {
        self.error(at, field, at.get_ref().to_string(), expected)
    }

    fn within<T: PartialOrd + Copy + std::fmt::Display>(
        &self,
        at: &Spanned<T>,
        field: &'static str,
        least: T,
        most: T,
    ) -> Result<T, ConfigError> {
        let value = *at.get_ref();
        if value < least || value > most {
            return Err(self.value(at, field, format!("{least} to {most}")));
        }
        Ok(value)
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1
}

fn syntax_error(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let start = error.span().map_or(0, |span| span.start);
    let line = line_of(text, start);
    let field = text
        .lines()
        .nth(line - 1)
        .and_then(|text| text.split_once('='))
        .map(|(name, _)| format!("{}: ", name.trim()))
        .unwrap_or_default();
    ConfigError::Syntax { path: path.to_owned(), line, field, message: error.message().replace('\n', "; ") }
}
