//! What the process is to the system: its pid file, and the user it becomes once everything is bound.
use nix::unistd::{Gid, Group, Uid, User, getegid, geteuid, setgid, setgroups, setuid};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::path::{Path, PathBuf};

/// `pidfile`, `proc-user` and `proc-group`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProcessPlan {
    pub pidfile: Option<PathBuf>,
    pub user: Option<String>,
    pub group: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    #[error("proc-user {0:?} is no user of this system")]
    User(String),
    #[error("proc-group {0:?} is no group of this system")]
    Group(String),
    #[error(
        "this process runs as user {uid} and may not become {wanted}: start it as root, or remove proc-user and proc-group"
    )]
    NotRoot { uid: Uid, wanted: String },
    #[error("cannot {doing}: {source}")]
    System {
        doing: &'static str,
        #[source]
        source: nix::Error,
    },
}

/// Lets the process have as many descriptors as the system grants it: each allocation takes one, and each connection. The
/// soft limit of 1,024 that most systems start a process with would end at some nine hundred sessions.
pub(crate) fn raise_descriptor_limit() {
    let held = getrlimit(Resource::Nofile);
    if held.current != held.maximum {
        let raised = Rlimit { current: held.maximum, ..held };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(%error, "the limit of descriptors stays as it is");
        }
    }
}

/// Who the process shall be when it serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    name: String,
    uid: Option<Uid>,
    gid: Option<Gid>,
}

impl Identity {
    /// Looks the names up, and whether this process may take them, before anything is bound.
    pub(crate) fn of(plan: &ProcessPlan) -> Result<Self, IdentityError> {
        let user = plan.user.as_ref().map(|name| {
            let found = User::from_name(name).ok().flatten();
            found.ok_or_else(|| IdentityError::User(name.clone()))
        });
        let user = user.transpose()?;
        let group = plan.group.as_ref().map(|name| {
            let found = Group::from_name(name).ok().flatten();
            found.ok_or_else(|| IdentityError::Group(name.clone()))
        });
        // Without proc-group, the user's own: nobody means to keep root's.
        let gid = group.transpose()?.map(|group| group.gid).or_else(|| user.as_ref().map(|user| user.gid));
        let names = [plan.user.as_deref(), plan.group.as_deref()];
        let name = names.into_iter().flatten().collect::<Vec<_>>().join(":");
        let identity = Self { name, uid: user.map(|user| user.uid), gid };
        if identity.changes() && !geteuid().is_root() {
            return Err(IdentityError::NotRoot { uid: geteuid(), wanted: identity.name });
        }
        Ok(identity)
    }

    /// The user alone decides for a process without rights: a service manager gives it the group that it wants.
    fn changes(&self) -> bool {
        match self.uid {
            Some(uid) => uid != geteuid(),
            None => self.gid.is_some_and(|gid| gid != getegid()),
        }
    }

    /// Every thread of the process becomes this user, for good. `log` is handed over, so that it can be opened again.
    pub(crate) fn take(&self, log: Option<&Path>) -> Result<(), IdentityError> {
        if !self.changes() {
            return Ok(());
        }
        let system = |doing| move |source| IdentityError::System { doing, source };
        if let Some(path) = log
            && let Err(error) = std::os::unix::fs::chown(path, self.uid.map(Uid::as_raw), self.gid.map(Gid::as_raw))
        {
            tracing::warn!(%error, path = %path.display(), "the log file keeps its owner");
        }
        setgroups(&[]).map_err(system("leave the supplementary groups"))?;
        if let Some(gid) = self.gid {
            setgid(gid).map_err(system("change the group"))?;
        }
        if let Some(uid) = self.uid {
            setuid(uid).map_err(system("change the user"))?;
        }
        tracing::info!(user = %geteuid(), group = %getegid(), "serving as {}", self.name);
        Ok(())
    }
}

/// The file is gone when this is.
pub(crate) struct PidFile(Option<PathBuf>);

impl PidFile {
    /// As coturn: a pid that cannot be written is no reason not to serve.
    pub(crate) fn write(plan: &ProcessPlan) -> Self {
        let path = plan.pidfile.clone().filter(|path| {
            let written = std::fs::write(path, format!("{}\n", std::process::id()));
            if let Err(error) = &written {
                tracing::warn!(%error, path = %path.display(), "pid not written");
            }
            written.is_ok()
        });
        Self(path)
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}
