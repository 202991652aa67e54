//! Logical tables: names for ordered maps from raw bytes to raw bytes.

use core::fmt;

/// What losing a table would mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TableKind {
    /// Cannot be derived from anything else: losing it loses data.
    Truth,
    /// A cache that replaying the truth fills again.
    Projection,
}

impl TableKind {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Truth => "truth/",
            Self::Projection => "projection/",
        }
    }
}

/// A logical table. Declared once, as a `static`; two tables are the same if name and kind are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Table {
    /// Unique among all tables; `feature.what` by convention.
    pub name: &'static str,
    /// Cache or truth.
    pub kind: TableKind,
}

impl Table {
    /// A table whose rows exist nowhere else.
    #[must_use]
    pub const fn truth(name: &'static str) -> Self {
        Self { name, kind: TableKind::Truth }
    }

    /// A table that [`Store::clear_projections`](super::Store::clear_projections) empties.
    #[must_use]
    pub const fn projection(name: &'static str) -> Self {
        Self { name, kind: TableKind::Projection }
    }

    /// The name in the file. It carries the kind, so that projections can be told from truth
    /// even when the code that declared them is gone.
    pub(super) fn disk_name(&self) -> String {
        format!("{}{}", self.kind.prefix(), self.name)
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.kind.prefix(), self.name)
    }
}

/// Splits a name in the file into kind and name; `None` for the store's own tables.
pub(super) fn parse_disk_name(disk: &str) -> Option<(TableKind, &str)> {
    [TableKind::Truth, TableKind::Projection]
        .into_iter()
        .find_map(|kind| Some((kind, disk.strip_prefix(kind.prefix())?)))
}
