//! The steps of the build, and the Debian package behind everything they need.
//!
//! Loop devices, mounts and root are not among the needs, on purpose: the image is put together by tools that write into files,
//! so that it can be built in a container, and twice the same.

use crate::host::{Host, Need};
use std::collections::BTreeSet;
use std::fmt::Write;

/// One step.
pub struct Step {
    title: &'static str,
    /// What it needs, and the package that brings it.
    needs: &'static [(Need, &'static str)],
}

/// What makes the image.
pub const BUILD: [Step; 6] = [
    Step {
        title: "Build `strongroom` and PID 1 as static programs (crt-static on the gnu target)",
        needs: &[(Need::Command("ld"), "binutils")],
    },
    Step {
        title: "Fetch Debian's cloud kernel and take it apart without installing it; keep the modules for ENA, ixgbevf, Xen and virtio",
        needs: &[
            (Need::Command("apt-get"), "apt"),
            (Need::Command("dpkg-deb"), "dpkg"),
            (Need::Command("depmod"), "kmod"),
        ],
    },
    Step {
        title: "Pack the initramfs: files sorted, times fixed by SOURCE_DATE_EPOCH",
        needs: &[(Need::Command("cpio"), "cpio"), (Need::Command("zstd"), "zstd")],
    },
    Step {
        title: "Join kernel, initramfs and command line into one EFI program; fix its time stamp and checksum",
        needs: &[
            (Need::Command("objcopy"), "binutils"),
            (Need::File("usr/lib/systemd/boot/efi/linuxx64.efi.stub"), "systemd-boot-efi"),
            (Need::File("usr/lib/systemd/boot/efi/systemd-bootx64.efi"), "systemd-boot-efi"),
        ],
    },
    Step {
        title: "Lay out the disk: GPT with fixed UUIDs, two slots, a FAT boot partition filled without mounting",
        needs: &[
            (Need::Command("sfdisk"), "fdisk"),
            (Need::Command("mkfs.vfat"), "dosfstools"),
            (Need::Command("mcopy"), "mtools"),
        ],
    },
    Step {
        title: "Add GRUB for BIOS, which I2 and HS1 start by",
        needs: &[
            (Need::Command("grub-mkimage"), "grub-common"),
            (Need::File("usr/lib/grub/i386-pc/boot.img"), "grub-pc-bin"),
        ],
    },
];

/// What boots it.
pub const BOOT_TEST: [Step; 2] = [
    Step {
        title: "Boot it in QEMU by SeaBIOS and by OVMF, with drives from a fixture that loses unflushed writes",
        needs: &[
            (Need::Command("qemu-system-x86_64"), "qemu-system-x86"),
            (Need::Command("qemu-img"), "qemu-utils"),
            (Need::File("usr/share/OVMF/OVMF_CODE_4M.fd"), "ovmf"),
            (Need::File("usr/share/seabios/bios-256k.bin"), "seabios"),
        ],
    },
    Step {
        title: "Put mail, pull the plug, boot again, read it back",
        needs: &[(Need::Command("curl"), "curl")],
    },
];

/// Packages that bring what `host` lacks, each once, in the order of their names.
pub fn missing_packages(host: &Host) -> BTreeSet<&'static str> {
    let needs = BUILD.iter().chain(&BOOT_TEST).flat_map(|step| step.needs);
    needs.filter(|(need, _)| !host.has(*need)).map(|(_, package)| *package).collect()
}

/// The plan in words, with what `host` lacks.
pub fn describe(host: &Host) -> String {
    let mut text = String::new();
    for (heading, steps) in [("Build", BUILD.as_slice()), ("Boot test", BOOT_TEST.as_slice())] {
        line(&mut text, format_args!("{heading}"));
        for (index, step) in steps.iter().enumerate() {
            line(&mut text, format_args!("  {}. {}", index + 1, step.title));
            for (need, package) in step.needs {
                let state = if host.has(*need) { "ok     " } else { "MISSING" };
                let name = match need {
                    Need::Command(name) => (*name).to_owned(),
                    Need::File(place) => format!("/{place}"),
                };
                line(&mut text, format_args!("       {state} {name} ({package})"));
            }
        }
    }
    let missing: Vec<&str> = missing_packages(host).into_iter().collect();
    if missing.is_empty() {
        line(&mut text, format_args!("Nothing is missing."));
    } else {
        line(&mut text, format_args!("Missing: apt-get install {}", missing.join(" ")));
    }
    line(&mut text, format_args!("The builder that takes these steps is not written yet."));
    text
}

fn line(text: &mut String, words: std::fmt::Arguments<'_>) {
    writeln!(text, "{words}").expect("a String takes all that is written");
}

#[cfg(test)]
mod tests {
    use super::{BOOT_TEST, BUILD, describe, missing_packages};
    use crate::host::{Host, Need};
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    fn put(root: &Path, place: &str, mode: u32) {
        let path = root.join(place);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, b"x").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn an_empty_host_lacks_every_package_and_a_full_one_none() {
        let root = tempfile::TempDir::new().unwrap();
        let host = Host::new(root.path(), std::iter::empty());
        let all = missing_packages(&host);
        assert!(all.contains("mtools") && all.contains("qemu-system-x86") && all.len() >= 15);
        assert!(
            describe(&host)
                .contains(&format!("apt-get install {}", all.iter().copied().collect::<Vec<_>>().join(" ")))
        );

        for (need, _) in BUILD.iter().chain(&BOOT_TEST).flat_map(|step| step.needs) {
            match need {
                Need::Command(name) => put(root.path(), &format!("usr/bin/{name}"), 0o755),
                Need::File(place) => put(root.path(), place, 0o644),
            }
        }
        assert!(missing_packages(&host).is_empty());
        assert!(describe(&host).contains("Nothing is missing") && !describe(&host).contains("MISSING"));
    }

    #[test]
    fn a_command_counts_only_where_it_can_be_run() {
        let root = tempfile::TempDir::new().unwrap();
        let host = Host::new(root.path(), [root.path().join("own")].into_iter());
        put(root.path(), "usr/bin/mcopy", 0o644);
        assert!(!host.has(Need::Command("mcopy")));
        put(root.path(), "own/mcopy", 0o755);
        assert!(host.has(Need::Command("mcopy")));
        fs::create_dir_all(root.path().join("own/cpio")).unwrap();
        assert!(!host.has(Need::Command("cpio")), "a folder is no command");
    }
}
