//! The folders of a volume, and the journal of what was changed in them since the last commit.
//!
//! As on a journalling file system: changes become durable in order, all up to a commit at once; a power cut leaves some first part of
//! those that were not committed. There are no hard links and no symbolic links.

use super::content::{Content, Cut, Tear};
use crate::sim::draws::Draws;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};

/// The number of a volume's own folder.
pub const ROOT: u64 = 1;
/// Changes that wait for a commit at most; then one happens by itself, as every few seconds on a real system.
const JOURNAL_LEN_MAX: usize = 4096;

/// Why something was not done, as an error number.
pub type Errno = i32;

/// Names in a folder.
pub type Entries = BTreeMap<OsString, u64>;

#[derive(Clone)]
enum Node {
    Folder(Entries),
    File(Content),
}

#[derive(Clone, Debug)]
enum Change {
    Add { folder: u64, name: OsString, number: u64, is_folder: bool },
    Remove { folder: u64, name: OsString },
    Move { from: u64, name: OsString, to: u64, new_name: OsString },
    SetLen { number: u64, len_bytes: u64 },
}

/// What a power cut did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TreeCut {
    /// To sectors.
    pub sectors: Cut,
    /// Changes of folders and lengths that did not survive.
    pub changes_dropped_count: u64,
}

/// See the module.
#[derive(Clone)]
pub struct Tree {
    nodes: BTreeMap<u64, Node>,
    /// Folders as media have them.
    durable: BTreeMap<u64, Entries>,
    journal: Vec<Change>,
    open: BTreeMap<u64, u64>,
    next: u64,
}

impl Default for Tree {
    fn default() -> Self {
        Self {
            nodes: BTreeMap::from([(ROOT, Node::Folder(Entries::new()))]),
            durable: BTreeMap::from([(ROOT, Entries::new())]),
            journal: Vec::new(),
            open: BTreeMap::new(),
            next: ROOT + 1,
        }
    }
}

impl Tree {
    /// What is in a folder.
    ///
    /// # Errors
    /// ENOENT, ENOTDIR.
    pub fn entries(&self, folder: u64) -> Result<&Entries, Errno> {
        match self.nodes.get(&folder) {
            Some(Node::Folder(entries)) => Ok(entries),
            Some(Node::File(_)) => Err(libc::ENOTDIR),
            None => Err(libc::ENOENT),
        }
    }

    fn entries_mut(&mut self, folder: u64) -> Result<&mut Entries, Errno> {
        match self.nodes.get_mut(&folder) {
            Some(Node::Folder(entries)) => Ok(entries),
            Some(Node::File(_)) => Err(libc::ENOTDIR),
            None => Err(libc::ENOENT),
        }
    }

    /// The number behind a name.
    ///
    /// # Errors
    /// ENOENT, ENOTDIR.
    pub fn find(&self, folder: u64, name: &OsStr) -> Result<u64, Errno> {
        self.entries(folder)?.get(name).copied().ok_or(libc::ENOENT)
    }

    /// Whether this is a folder; `None` where there is nothing.
    pub fn is_folder(&self, number: u64) -> Option<bool> {
        self.nodes.get(&number).map(|node| matches!(node, Node::Folder(_)))
    }

    /// A file's bytes.
    ///
    /// # Errors
    /// ENOENT, EISDIR.
    pub fn file(&self, number: u64) -> Result<&Content, Errno> {
        match self.nodes.get(&number) {
            Some(Node::File(content)) => Ok(content),
            Some(Node::Folder(_)) => Err(libc::EISDIR),
            None => Err(libc::ENOENT),
        }
    }

    /// A file's bytes, to be changed.
    ///
    /// # Errors
    /// ENOENT, EISDIR.
    pub fn file_mut(&mut self, number: u64) -> Result<&mut Content, Errno> {
        match self.nodes.get_mut(&number) {
            Some(Node::File(content)) => Ok(content),
            Some(Node::Folder(_)) => Err(libc::EISDIR),
            None => Err(libc::ENOENT),
        }
    }

    /// All files, those without a name too.
    pub fn files_mut(&mut self) -> impl Iterator<Item = (u64, &mut Content)> {
        self.nodes.iter_mut().filter_map(|(number, node)| match node {
            Node::File(content) => Some((*number, content)),
            Node::Folder(_) => None,
        })
    }

    fn record(&mut self, change: Change) {
        self.journal.push(change);
        if self.journal.len() > JOURNAL_LEN_MAX {
            self.commit();
        }
    }

    /// A new file or folder.
    ///
    /// # Errors
    /// EEXIST, ENOENT, ENOTDIR.
    pub fn add(&mut self, folder: u64, name: &OsStr, is_folder: bool) -> Result<u64, Errno> {
        if self.entries(folder)?.contains_key(name) {
            return Err(libc::EEXIST);
        }
        let number = self.next;
        self.next += 1;
        self.entries_mut(folder)?.insert(name.to_owned(), number);
        let node = if is_folder { Node::Folder(Entries::new()) } else { Node::File(Content::default()) };
        self.nodes.insert(number, node);
        self.record(Change::Add { folder, name: name.to_owned(), number, is_folder });
        Ok(number)
    }

    /// Removes a name. The file stays as long as someone has it open, or a power cut may bring the name back.
    ///
    /// # Errors
    /// ENOENT, EISDIR, ENOTDIR, ENOTEMPTY.
    pub fn remove(&mut self, folder: u64, name: &OsStr, is_folder: bool) -> Result<(), Errno> {
        let number = self.find(folder, name)?;
        match (self.nodes.get(&number), is_folder) {
            (Some(Node::Folder(_)), false) => return Err(libc::EISDIR),
            (Some(Node::File(_)), true) => return Err(libc::ENOTDIR),
            (Some(Node::Folder(entries)), true) if !entries.is_empty() => return Err(libc::ENOTEMPTY),
            (Some(_), _) => {}
            (None, _) => return Err(libc::ENOENT),
        }
        self.entries_mut(folder)?.remove(name);
        self.record(Change::Remove { folder, name: name.to_owned() });
        Ok(())
    }

    /// Gives something another name, in place of what had it unless `replace` is false.
    ///
    /// # Errors
    /// ENOENT, EEXIST, EISDIR, ENOTDIR, ENOTEMPTY.
    pub fn rename(
        &mut self,
        from: u64,
        name: &OsStr,
        to: u64,
        new_name: &OsStr,
        replace: bool,
    ) -> Result<(), Errno> {
        let number = self.find(from, name)?;
        if let Ok(old) = self.find(to, new_name) {
            if !replace {
                return Err(libc::EEXIST);
            }
            match (self.nodes.get(&number), self.nodes.get(&old)) {
                (_, _) if old == number => return Ok(()),
                (Some(Node::Folder(_)), Some(Node::Folder(entries))) if entries.is_empty() => {}
                (Some(Node::Folder(_)), Some(Node::Folder(_))) => return Err(libc::ENOTEMPTY),
                (Some(Node::Folder(_)), _) => return Err(libc::ENOTDIR),
                (_, Some(Node::Folder(_))) => return Err(libc::EISDIR),
                (_, _) => {}
            }
        }
        self.entries(to)?;
        self.entries_mut(from)?.remove(name);
        self.entries_mut(to)?.insert(new_name.to_owned(), number);
        self.record(Change::Move { from, name: name.to_owned(), to, new_name: new_name.to_owned() });
        Ok(())
    }

    /// Changes a file's length.
    ///
    /// # Errors
    /// ENOENT, EISDIR.
    pub fn set_len(&mut self, number: u64, len_bytes: u64) -> Result<(), Errno> {
        let content = self.file_mut(number)?;
        if content.len_bytes() != len_bytes {
            content.set_len(len_bytes);
            self.record(Change::SetLen { number, len_bytes });
        }
        Ok(())
    }

    /// Someone opens it.
    pub fn opened(&mut self, number: u64) {
        *self.open.entry(number).or_default() += 1;
    }

    /// Someone who had it open closes it.
    pub fn closed(&mut self, number: u64) {
        if let Some(count) = self.open.get_mut(&number) {
            *count -= 1;
            if *count == 0 {
                self.open.remove(&number);
                if self.journal.is_empty() {
                    self.forget_nameless();
                }
            }
        }
    }

    /// Makes a file's bytes durable, and the journal where the file could not be found or read without it (`fdatasync`), or in any case
    /// (`fsync`).
    ///
    /// # Errors
    /// ENOENT, EISDIR.
    pub fn flush(&mut self, number: u64, data_only: bool) -> Result<(), Errno> {
        let content = self.file_mut(number)?;
        let grown = content.len_bytes() != content.durable_len_bytes();
        content.flush();
        let is_named_in_journal = || {
            self.journal.iter().any(|change| match change {
                Change::Add { number: added, .. } | Change::SetLen { number: added, .. } => *added == number,
                Change::Remove { .. } | Change::Move { .. } => false,
            })
        };
        if !data_only || grown || is_named_in_journal() {
            self.commit();
        }
        Ok(())
    }

    /// Makes all changes of folders and lengths durable, in order.
    pub fn commit(&mut self) {
        let journal = std::mem::take(&mut self.journal);
        self.make_durable(&journal);
        if !journal.is_empty() {
            self.forget_nameless();
        }
    }

    fn make_durable(&mut self, changes: &[Change]) {
        for change in changes {
            apply(&mut self.durable, change);
            if let Change::SetLen { number, len_bytes } = change
                && let Some(Node::File(content)) = self.nodes.get_mut(number)
            {
                content.len_is_durable(*len_bytes);
            }
        }
    }

    /// Drops files that have no name, neither now nor on media, and that nobody has open.
    fn forget_nameless(&mut self) {
        let mut named = BTreeSet::from([ROOT]);
        for entries in self.durable.values() {
            named.extend(entries.values());
        }
        for node in self.nodes.values() {
            if let Node::Folder(entries) = node {
                named.extend(entries.values());
            }
        }
        self.nodes.retain(|number, _| named.contains(number) || self.open.contains_key(number));
        self.durable.retain(|number, _| named.contains(number));
    }

    /// Power fails: a first part of the journal and any part of what was not flushed survive. Nobody has anything open afterwards.
    pub fn cut(&mut self, tear: Tear, draws: &mut Draws) -> TreeCut {
        let journal = std::mem::take(&mut self.journal);
        let survives_count = draws.index(journal.len() + 1);
        let (survives, dropped) = journal.split_at(survives_count);
        self.make_durable(survives);
        let not_grown: BTreeSet<u64> = dropped
            .iter()
            .filter_map(|change| match change {
                Change::SetLen { number, .. } => Some(*number),
                Change::Add { .. } | Change::Remove { .. } | Change::Move { .. } => None,
            })
            .collect();
        let mut cut = TreeCut { changes_dropped_count: dropped.len() as u64, ..TreeCut::default() };
        self.open.clear();
        self.nodes.retain(|_, node| matches!(node, Node::File(_)));
        for (folder, entries) in &self.durable {
            self.nodes.insert(*folder, Node::Folder(entries.clone()));
        }
        self.forget_nameless();
        for (number, node) in &mut self.nodes {
            let Node::File(content) = node else { continue };
            let one = content.cut(!not_grown.contains(number), tear, draws);
            cut.sectors.kept_count += one.kept_count;
            cut.sectors.dropped_count += one.dropped_count;
        }
        cut
    }

    /// As media have it.
    pub fn durable(&self) -> Self {
        let mut nodes: BTreeMap<u64, Node> = BTreeMap::new();
        for (folder, entries) in &self.durable {
            nodes.insert(*folder, Node::Folder(entries.clone()));
        }
        for (number, node) in &self.nodes {
            if let Node::File(content) = node {
                nodes.insert(*number, Node::File(content.durable()));
            }
        }
        let mut durable = Self { nodes, durable: self.durable.clone(), next: self.next, ..Self::default() };
        durable.forget_nameless();
        durable
    }

    /// Takes the place of this tree, which never gives a number out again.
    pub fn replace(&mut self, with: Self) {
        let next = self.next.max(with.next);
        *self = Self { next, ..with };
    }
}

fn apply(folders: &mut BTreeMap<u64, Entries>, change: &Change) {
    match change {
        Change::Add { folder, name, number, is_folder } => {
            if *is_folder {
                folders.insert(*number, Entries::new());
            }
            folders.entry(*folder).or_default().insert(name.clone(), *number);
        }
        Change::Remove { folder, name } => {
            folders.entry(*folder).or_default().remove(name);
        }
        Change::Move { from, name, to, new_name } => {
            if let Some(number) = folders.entry(*from).or_default().remove(name) {
                folders.entry(*to).or_default().insert(new_name.clone(), number);
            }
        }
        Change::SetLen { .. } => {}
    }
}
