//! What passes between the window and the bridge about photos.

use std::path::PathBuf;
use std::sync::Arc;

use egui::ColorImage;
use teahouse_node::core::photos::NewPhoto;
use teahouse_node::media::Which;

/// A picture that somebody wants to send.
#[derive(Clone)]
pub enum Pick {
    /// A file.
    File(PathBuf),
    /// Pixels, from the clipboard.
    Pixels(Arc<ColorImage>),
}

impl core::fmt::Debug for Pick {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::File(path) => write!(f, "File({})", path.display()),
            Self::Pixels(image) => write!(f, "Pixels({:?})", image.size),
        }
    }
}

/// What came of it.
#[derive(Debug, Clone)]
pub enum News {
    /// The system's dialog was answered; with nothing where it was closed, or where there is
    /// none.
    Chosen {
        /// The ticket of the question.
        ticket: u64,
        /// The files.
        files: Vec<PathBuf>,
    },
    /// A picture is ready to be sent, or why it is not.
    Taken {
        /// The picture's ticket.
        ticket: u64,
        /// What goes into a command.
        result: Result<NewPhoto, String>,
    },
    /// How far the photo is that somebody looks at.
    Look {
        /// Which one.
        which: Which,
        /// How far.
        state: Look,
    },
}

/// How far a photo in full size is.
#[derive(Clone, PartialEq, Eq, Default)]
pub enum Look {
    /// It is looked for: here, or a device that has it.
    #[default]
    Asking,
    /// Bytes come.
    Coming {
        /// So many are here.
        have: u64,
        /// Of so many.
        size: u64,
    },
    /// It is here.
    Here(Arc<ColorImage>),
    /// Nobody who may have it could be reached, or gave it.
    Away,
    /// It can't be shown; why, in words.
    Failed(String),
}

impl core::fmt::Debug for Look {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Asking => f.write_str("Asking"),
            Self::Coming { have, size } => write!(f, "Coming({have} of {size})"),
            Self::Here(image) => write!(f, "Here({:?})", image.size),
            Self::Away => f.write_str("Away"),
            Self::Failed(why) => write!(f, "Failed({why})"),
        }
    }
}
