//! A network namespace for each zone, joined by a bridge, and cuts between them. Done with `ip`; needs root.
//!
//! Nothing is refused by a cut: packets vanish, as between real zones. One way is cut by giving the sender a wrong hardware address for the
//! receiver, which needs no packet filter in the kernel.

use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, Stdio};

/// An address that no interface here has.
const NOWHERE: &str = "02:00:00:00:00:fe";

/// Why the network could not be made or changed.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The program `ip` or `tc` could not be run.
    #[error("{program}: {source}")]
    Run {
        /// Which.
        program: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It said no.
    #[error("{command}: {words}")]
    Refused {
        /// What was asked for.
        command: String,
        /// What it said.
        words: String,
    },
}

/// Which packets vanish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// All from and to the zone, those of clients too.
    Isolated,
    /// All between the zone and the other zones; clients reach it.
    FromPeers,
    /// Those from the zone to the other zones.
    Outward,
    /// Those from the other zones to the zone.
    Inward,
}

/// Where zones are.
pub enum Network {
    /// All on the loopback: no cuts.
    Loopback,
    /// In namespaces.
    Namespaces(Namespaces),
}

/// See the module. Dropping it removes all of it.
pub struct Namespaces {
    names: Names,
    subnet: u8,
    zones: u8,
    has_netem: bool,
}

/// What namespaces and links of a run are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// The process that made them.
    pub owner: u32,
}

impl Names {
    /// The namespace of a zone.
    pub fn namespace(&self, zone: u8) -> String {
        format!("srsoak-{}-{zone}", self.owner)
    }

    /// The bridge. Fifteen characters at most, as the kernel wants it.
    pub fn bridge(&self) -> String {
        format!("sr{}b", self.owner)
    }

    fn link(&self, zone: u8) -> String {
        format!("sr{}z{zone}", self.owner)
    }
}

fn run(program: &'static str, arguments: &str) -> Result<(), NetworkError> {
    let output = Command::new(program)
        .args(arguments.split_whitespace())
        .stdin(Stdio::null())
        .output()
        .map_err(|source| NetworkError::Run { program, source })?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(NetworkError::Refused { command: format!("{program} {arguments}"), words })
}

fn ip(arguments: &str) -> Result<(), NetworkError> {
    run("ip", arguments)
}

/// Removes the namespaces and links of a run, as far as they are there.
pub fn remove(names: &Names, zones: u8) {
    for zone in 1..=zones {
        // The pair of links goes with its end in the namespace. What is not there need not go.
        let _ = ip(&format!("netns del {}", names.namespace(zone)));
        let _ = ip(&format!("link del {}", names.link(zone)));
    }
    let _ = ip(&format!("link del {}", names.bridge()));
}

impl Namespaces {
    /// Makes them.
    ///
    /// # Errors
    /// Not root, or no `ip`; what was made is removed.
    pub fn new(zones: u8) -> Result<Self, NetworkError> {
        let owner = std::process::id();
        // One byte of the address from the process, so that two runs at once do not share one.
        let subnet = u8::try_from(owner % 250).expect("below 250") + 1;
        let mut made = Self { names: Names { owner }, subnet, zones, has_netem: false };
        made.build()?;
        made.has_netem = made.tc(1, "replace", "netem delay 1ms").is_ok();
        if made.has_netem {
            made.tc(1, "del", "")?;
        }
        Ok(made)
    }

    fn build(&self) -> Result<(), NetworkError> {
        let bridge = self.names.bridge();
        ip(&format!("link add {bridge} type bridge"))?;
        ip(&format!("addr add 10.213.{}.254/24 dev {bridge}", self.subnet))?;
        ip(&format!("link set {bridge} up"))?;
        for zone in 1..=self.zones {
            let (namespace, link) = (self.names.namespace(zone), self.names.link(zone));
            ip(&format!("netns add {namespace}"))?;
            ip(&format!("link add {link} type veth peer name eth0 netns {namespace}"))?;
            ip(&format!("link set {link} master {bridge} up"))?;
            ip(&format!("-n {namespace} link set lo up"))?;
            ip(&format!("-n {namespace} addr add {}/24 dev eth0", self.address(zone)))?;
            ip(&format!("-n {namespace} link set eth0 up"))?;
        }
        Ok(())
    }

    fn address(&self, zone: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 213, self.subnet, zone)
    }

    fn tc(&self, zone: u8, verb: &str, what: &str) -> Result<(), NetworkError> {
        run("tc", &format!("qdisc {verb} dev {} root {what}", self.names.link(zone)))
    }

    fn drop_from_to(&self, from: u8, to: u8, vanish: bool) -> Result<(), NetworkError> {
        let (namespace, address) = (self.names.namespace(from), self.address(to));
        match vanish {
            true => {
                ip(&format!("-n {namespace} neigh replace {address} lladdr {NOWHERE} dev eth0 nud permanent"))
            }
            false => ip(&format!("-n {namespace} neigh del {address} dev eth0")),
        }
    }

    fn change(&self, zone: u8, cut: Cut, vanish: bool) -> Result<(), NetworkError> {
        let others = || (1..=self.zones).filter(|other| *other != zone);
        let outward = || others().try_for_each(|other| self.drop_from_to(zone, other, vanish));
        let inward = || others().try_for_each(|other| self.drop_from_to(other, zone, vanish));
        match (cut, vanish) {
            (Cut::Isolated, true) => ip(&format!("link set {} nomaster", self.names.link(zone))),
            (Cut::Isolated, false) => {
                ip(&format!("link set {} master {}", self.names.link(zone), self.names.bridge()))
            }
            (Cut::FromPeers, _) => outward().and_then(|()| inward()),
            (Cut::Outward, _) => outward(),
            (Cut::Inward, _) => inward(),
        }
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        remove(&self.names, self.zones);
    }
}

impl Network {
    /// Where a zone's nodes listen.
    pub fn address(&self, zone: u8) -> IpAddr {
        match self {
            Self::Loopback => IpAddr::V4(Ipv4Addr::LOCALHOST),
            Self::Namespaces(namespaces) => IpAddr::V4(namespaces.address(zone)),
        }
    }

    /// The namespace that a zone's processes are started in.
    pub fn namespace(&self, zone: u8) -> Option<String> {
        match self {
            Self::Loopback => None,
            Self::Namespaces(namespaces) => Some(namespaces.names.namespace(zone)),
        }
    }

    /// Whether zones can be cut.
    pub fn can_cut(&self) -> bool {
        matches!(self, Self::Namespaces(_))
    }

    /// Whether packets can be delayed and lost by chance.
    pub fn can_disturb(&self) -> bool {
        matches!(self, Self::Namespaces(namespaces) if namespaces.has_netem)
    }

    /// Cuts a zone off.
    ///
    /// # Errors
    /// `ip` refuses.
    pub fn cut(&self, zone: u8, cut: Cut) -> Result<(), NetworkError> {
        match self {
            Self::Loopback => Ok(()),
            Self::Namespaces(namespaces) => namespaces.change(zone, cut, true),
        }
    }

    /// Takes a cut back.
    ///
    /// # Errors
    /// `ip` refuses.
    pub fn mend(&self, zone: u8, cut: Cut) -> Result<(), NetworkError> {
        match self {
            Self::Loopback => Ok(()),
            Self::Namespaces(namespaces) => namespaces.change(zone, cut, false),
        }
    }

    /// Delays packets to a zone and loses some; without `rule` it ends.
    ///
    /// # Errors
    /// `tc` refuses.
    pub fn disturb(&self, zone: u8, rule: Option<&str>) -> Result<(), NetworkError> {
        match (self, rule) {
            (Self::Loopback, _) => Ok(()),
            (Self::Namespaces(namespaces), Some(rule)) => {
                namespaces.tc(zone, "replace", &format!("netem {rule}"))
            }
            (Self::Namespaces(namespaces), None) => namespaces.tc(zone, "del", ""),
        }
    }
}

/// Does something in a namespace: what is started there stays there.
///
/// # Errors
/// The namespace is not there, or this process may not enter it.
pub fn inside<T: Send>(namespace: Option<&str>, work: impl FnOnce() -> T + Send) -> std::io::Result<T> {
    let Some(namespace) = namespace else { return Ok(work()) };
    let path = format!("/run/netns/{namespace}");
    // A thread of its own: a namespace is a thread's, and this one does not go back.
    std::thread::scope(|scope| {
        let entered = scope.spawn(move || {
            let file = std::fs::File::open(&path)?;
            nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET)?;
            Ok(work())
        });
        entered.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
