//! Files and directories, each as it is on disk and as the page cache shows it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::DiskLoss;
use super::content::{Change, Content, SECTOR};
use super::random::Random;

pub(super) type Id = u64;
pub(super) const ROOT: Id = 0;

#[derive(Clone, Debug, Default)]
pub(super) struct FileNode {
    durable: Content,
    pub(super) cached: Content,
    unsynced: Vec<(u64, Change)>,
    /// A failed sync marked changes clean that are not on disk.
    lost: bool,
}

#[derive(Clone, Debug)]
enum DirChange {
    Add {
        name: String,
        id: Id,
    },
    Remove {
        name: String,
        id: Id,
    },
    /// Within one directory: both names change together.
    Rename {
        from: String,
        to: String,
        id: Id,
    },
    /// The name left for another directory, where it appears first.
    MoveAway {
        name: String,
        id: Id,
        to_dir: Id,
        to: String,
    },
}

#[derive(Clone, Debug, Default)]
pub(super) struct DirNode {
    durable: BTreeMap<String, Id>,
    pub(super) cached: BTreeMap<String, Id>,
    unsynced: Vec<(u64, DirChange)>,
}

#[derive(Clone, Debug)]
pub(super) enum Node {
    File(FileNode),
    Dir(DirNode),
}

/// Copying shares everything until one side is written to.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    nodes: BTreeMap<Id, Arc<Node>>,
    next_id: Id,
    /// Order of changes over the whole disk.
    stamp: u64,
    /// What a file that was removed held: unwritten sectors may show it again.
    grave: Content,
}

impl Disk {
    pub(super) fn new() -> Self {
        let root = Arc::new(Node::Dir(DirNode::default()));
        Self {
            nodes: BTreeMap::from([(ROOT, root)]),
            next_id: 1,
            stamp: 0,
            grave: Content::default(),
        }
    }

    pub(super) fn node(&self, id: Id) -> Option<&Node> {
        self.nodes.get(&id).map(|node| &**node)
    }

    pub(super) fn dir(&self, id: Id) -> Option<&DirNode> {
        match self.node(id) {
            Some(Node::Dir(dir)) => Some(dir),
            _ => None,
        }
    }

    pub(super) fn file(&self, id: Id) -> Option<&FileNode> {
        match self.node(id) {
            Some(Node::File(file)) => Some(file),
            _ => None,
        }
    }

    fn dir_mut(&mut self, id: Id) -> Option<&mut DirNode> {
        match self.nodes.get_mut(&id).map(Arc::make_mut) {
            Some(Node::Dir(dir)) => Some(dir),
            _ => None,
        }
    }

    fn file_mut(&mut self, id: Id) -> Option<&mut FileNode> {
        match self.nodes.get_mut(&id).map(Arc::make_mut) {
            Some(Node::File(file)) => Some(file),
            _ => None,
        }
    }

    fn stamp(&mut self) -> u64 {
        self.stamp += 1;
        self.stamp
    }

    fn change_dir(&mut self, dir: Id, change: DirChange) {
        let stamp = self.stamp();
        if let Some(node) = self.dir_mut(dir) {
            change.apply(&mut node.cached);
            node.unsynced.push((stamp, change));
        }
    }

    pub(super) fn add(&mut self, dir: Id, name: &str, node: Node) -> Id {
        let id = self.next_id;
        self.next_id += 1;
        self.nodes.insert(id, Arc::new(node));
        self.change_dir(dir, DirChange::Add { name: name.to_owned(), id });
        id
    }

    pub(super) fn remove(&mut self, dir: Id, name: &str, id: Id) {
        self.bury(id);
        self.change_dir(dir, DirChange::Remove { name: name.to_owned(), id });
    }

    pub(super) fn rename(
        &mut self,
        id: Id,
        (from_dir, from): (Id, &str),
        (to_dir, to): (Id, &str),
    ) {
        if let Some(replaced) = self.dir(to_dir).and_then(|d| d.cached.get(to)).copied() {
            self.bury(replaced);
        }
        let (from, to) = (from.to_owned(), to.to_owned());
        if from_dir == to_dir {
            self.change_dir(from_dir, DirChange::Rename { from, to, id });
        } else {
            self.change_dir(to_dir, DirChange::Add { name: to.clone(), id });
            self.change_dir(from_dir, DirChange::MoveAway { name: from, id, to_dir, to });
        }
    }

    fn bury(&mut self, id: Id) {
        if let Some(file) = self.file(id).filter(|f| f.cached.len() > 0) {
            self.grave = file.cached.clone();
        }
    }

    pub(super) fn change_file(&mut self, id: Id, change: Change) {
        let stamp = self.stamp();
        if let Some(file) = self.file_mut(id) {
            change.apply(&mut file.cached);
            file.unsynced.push((stamp, change));
        }
    }

    pub(super) fn sync_file(&mut self, id: Id) {
        if let Some(file) = self.file_mut(id) {
            file.persist();
        }
    }

    /// The sync failed, and nobody will ever write these changes again.
    pub(super) fn lose_sync(&mut self, id: Id) {
        if let Some(file) = self.file_mut(id) {
            file.lost |= !file.unsynced.is_empty();
            file.unsynced.clear();
        }
    }

    pub(super) fn sync_dir(&mut self, id: Id) {
        let Some(dir) = self.dir_mut(id) else { return };
        for (_, change) in std::mem::take(&mut dir.unsynced) {
            self.persist_name(id, &change);
        }
    }

    fn persist_name(&mut self, dir: Id, change: &DirChange) {
        if let DirChange::MoveAway { id, to_dir, to, .. } = change
            && let Some(target) = self.dir_mut(*to_dir)
        {
            target.durable.insert(to.clone(), *id);
        }
        if let Some(node) = self.dir_mut(dir) {
            change.apply(&mut node.durable);
        }
    }

    /// Bytes of all files.
    pub(super) fn used(&self) -> u64 {
        let files = self.reachable().into_iter().filter_map(|id| self.file(id));
        files.map(|file| file.cached.len()).fold(0, u64::saturating_add)
    }

    /// The file holds this and always did.
    pub(super) fn replace(&mut self, id: Id, content: Content) {
        if let Some(file) = self.file_mut(id) {
            *file = FileNode { durable: content.clone(), cached: content, ..FileNode::default() };
        }
    }

    /// Everything that has a name, by what the page cache shows.
    pub(super) fn reachable(&self) -> BTreeSet<Id> {
        let mut found = BTreeSet::from([ROOT]);
        let mut open = vec![ROOT];
        while let Some(id) = open.pop() {
            if let Some(dir) = self.dir(id) {
                open.extend(dir.cached.values().filter(|id| found.insert(**id)));
            }
        }
        found
    }

    /// Clean pages that never reached the disk leave the cache: reads show the disk again.
    pub(super) fn evict(&mut self) {
        for node in self.nodes.values_mut() {
            if let Node::File(file) = &**node
                && file.lost
                && let Node::File(file) = Arc::make_mut(node)
            {
                file.cached = file.durable.clone();
                file.unsynced.iter().for_each(|(_, change)| change.apply(&mut file.cached));
                file.lost = false;
            }
        }
    }

    /// The disk as it is found after the power came back.
    pub(super) fn survive(&self, loss: DiskLoss, stale: bool) -> Self {
        let mut after = self.clone();
        let mut choice = match loss {
            DiskLoss::All => Survival::None,
            DiskLoss::Nothing => Survival::All,
            DiskLoss::Subset { seed } => Survival::Subset(Random::new(seed)),
            DiskLoss::Torn { seed } => {
                let mut random = Random::new(seed);
                let mut stamps = self.unsynced_stamps();
                stamps.sort_unstable();
                stamps.push(u64::MAX);
                let last = random.upto(stamps.len() - 1);
                Survival::Before(stamps.get(last).copied().unwrap_or(0), random)
            }
        };
        let grave = stale.then_some(&self.grave);
        for (id, node) in &self.nodes {
            match &**node {
                Node::File(file) if file.unsynced.is_empty() && !file.lost => {}
                Node::File(_) => {
                    if let Some(file) = after.file_mut(*id) {
                        file.survive(&mut choice, grave);
                    }
                }
                Node::Dir(dir) => {
                    for (stamp, change) in &dir.unsynced {
                        if choice.keeps(*stamp) {
                            after.persist_name(*id, change);
                        }
                    }
                }
            }
        }
        for id in self.nodes.keys() {
            if let Some(dir) = after.dir_mut(*id) {
                dir.unsynced.clear();
                dir.cached = dir.durable.clone();
            }
        }
        after.forget_unreachable();
        after
    }

    pub(super) fn forget_unreachable(&mut self) {
        let reachable = self.reachable();
        // A name that is gone from the cache but not from the disk may come back.
        let durable = self.nodes.values().filter_map(|node| match &**node {
            Node::Dir(dir) => Some(dir.durable.values().copied()),
            Node::File(_) => None,
        });
        let durable = durable.flatten().collect::<BTreeSet<_>>();
        self.nodes.retain(|id, _| reachable.contains(id) || durable.contains(id));
    }

    pub(super) fn unsynced_stamps(&self) -> Vec<u64> {
        let stamps = |node: &Arc<Node>| match &**node {
            Node::File(file) => file.unsynced.iter().map(|(stamp, _)| *stamp).collect::<Vec<_>>(),
            Node::Dir(dir) => dir.unsynced.iter().map(|(stamp, _)| *stamp).collect(),
        };
        self.nodes.values().flat_map(stamps).collect()
    }
}

impl DirChange {
    fn apply(&self, names: &mut BTreeMap<String, Id>) {
        let drop_name = |names: &mut BTreeMap<String, Id>, name: &String, id: &Id| {
            if names.get(name) == Some(id) {
                names.remove(name);
            }
        };
        match self {
            Self::Add { name, id } => {
                names.insert(name.clone(), *id);
            }
            Self::Remove { name, id } | Self::MoveAway { name, id, .. } => {
                drop_name(names, name, id);
            }
            Self::Rename { from, to, id } => {
                drop_name(names, from, id);
                names.insert(to.clone(), *id);
            }
        }
    }
}

/// Which unsynced changes reach the disk.
#[derive(Debug)]
enum Survival {
    None,
    All,
    Subset(Random),
    /// Those before this one; this one torn.
    Before(u64, Random),
}

impl Survival {
    fn keeps(&mut self, stamp: u64) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Subset(random) => random.coin(),
            Self::Before(torn, _) => stamp < *torn,
        }
    }
}

impl FileNode {
    fn persist(&mut self) {
        if self.lost {
            // Only what was changed since: what the failed sync marked clean stays lost.
            self.unsynced.iter().for_each(|(_, change)| change.apply(&mut self.durable));
        } else {
            self.durable = self.cached.clone();
        }
        self.unsynced.clear();
    }

    fn survive(&mut self, choice: &mut Survival, grave: Option<&Content>) {
        match choice {
            Survival::None => {}
            Survival::All => self.persist(),
            Survival::Subset(random) => self.keep_some(random, grave),
            Survival::Before(torn, random) => {
                for (stamp, change) in &self.unsynced {
                    if stamp < torn {
                        change.apply(&mut self.durable);
                    } else if stamp == torn {
                        let (_, touched) = change.effect(0);
                        let sectors = Change::sectors(&touched);
                        let count = usize::try_from(sectors.end - sectors.start).unwrap_or(0);
                        if let Some(part) = change.torn(random.upto(count) as u64) {
                            part.apply(&mut self.durable);
                        }
                    }
                }
            }
        }
        self.unsynced.clear();
        self.cached = self.durable.clone();
        self.lost = false;
    }

    /// Each sector as some change left it, each independent of the others; the length likewise.
    fn keep_some(&mut self, random: &mut Random, grave: Option<&Content>) {
        if self.unsynced.is_empty() {
            return;
        }
        let old_len = self.durable.len();
        let mut lengths = vec![old_len];
        let mut sectors = BTreeMap::<u64, Vec<&Change>>::new();
        let mut len = old_len;
        for (_, change) in &self.unsynced {
            let (after, touched) = change.effect(len);
            for sector in Change::sectors(&touched) {
                sectors.entry(sector).or_default().push(change);
            }
            len = after;
            lengths.push(len);
        }
        let longest = lengths.iter().copied().max().unwrap_or(0);
        self.durable.set_len(longest);
        for (sector, changes) in sectors {
            let range = sector * SECTOR..(sector + 1) * SECTOR;
            let kept = random.upto(changes.len());
            if kept == 0
                && range.start >= old_len
                && let Some(grave) = grave
            {
                self.durable.take_from(grave, range.clone());
            }
            for change in changes.into_iter().take(kept) {
                if let Some(part) = change.within(&range) {
                    part.apply(&mut self.durable);
                }
            }
        }
        let kept = random.upto(lengths.len() - 1);
        self.durable.set_len(lengths.get(kept).copied().unwrap_or(old_len));
    }
}
