//! The lab itself: what it promises to tests, without any daemon.

use std::time::{Duration, Instant};

use mesh_lab::{Capture, Delay, story, wait};

const DEADLINE: Duration = Duration::from_secs(20);

#[test]
fn hosts_reach_each_other_over_both_families() {
    story("reach", |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        assert!(a.pings(&b.addr4().to_string(), 1)?);
        assert!(a.pings(&b.addr6().to_string(), 1)?);
        assert!(b.pings(&a.addr4().to_string(), 1)?);
        Ok(())
    });
}

#[test]
fn a_delay_is_added_in_each_direction() {
    story("delay", |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        lab.internet().delay(a.number(), b.number(), Delay::one_way_ms(30))?;
        // A lower bound holds however slow the machine is.
        for target in [b.addr4().to_string(), b.addr6().to_string()] {
            let start = Instant::now();
            assert!(a.pings(&target, 1)?);
            assert!(start.elapsed() >= Duration::from_millis(60));
        }
        let c = lab.host("c")?;
        assert!(c.pings(&a.addr4().to_string(), 1)?, "a host that came later is reached too");
        Ok(())
    });
}

#[test]
fn total_loss_in_the_delaying_thread_lets_nothing_pass() {
    story("delay-loss", |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        lab.internet().delay(a.number(), b.number(), Delay { loss_ppm: 1_000_000, ..Delay::default() })?;
        assert!(!a.pings(&b.addr4().to_string(), 1)?);
        Ok(())
    });
}

#[test]
fn loss_takes_some_packets_and_leaves_some() {
    story("loss", |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        lab.internet().lose(a.number(), b.number(), 500)?;
        let output =
            a.run(&["ping", "-n", "-q", "-c", "100", "-i", "0.01", "-W", "1", &b.addr4().to_string()])?;
        let received = output.stdout.split(", ").find_map(|part| part.strip_suffix(" received"));
        let received: u32 = received.unwrap_or("0").parse()?;
        assert!((1..99).contains(&received), "{received} of 100 came back");
        Ok(())
    });
}

#[test]
fn a_cut_stops_one_pair_until_it_heals() {
    story("cut", |lab| {
        let [a, b, c] = lab.hosts(["a", "b", "c"])?;
        lab.internet().cut(a.number(), b.number())?;
        assert!(!a.pings(&b.addr4().to_string(), 1)?);
        assert!(!a.pings(&b.addr6().to_string(), 1)?);
        assert!(a.pings(&c.addr4().to_string(), 1)?);
        lab.internet().heal(a.number(), b.number())?;
        assert!(a.pings(&b.addr4().to_string(), 1)?);
        Ok(())
    });
}

#[test]
fn a_pulled_cable_can_be_plugged_in_again() {
    story("unplug", |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        b.unplug()?;
        assert!(!a.pings(&b.addr4().to_string(), 1)?);
        b.plug()?;
        wait::until(DEADLINE, "b is reached over IPv4", || {
            a.pings(&b.addr4().to_string(), 1).unwrap_or(false)
        })?;
        wait::until(DEADLINE, "b is reached over IPv6", || {
            a.pings(&b.addr6().to_string(), 1).unwrap_or(false)
        })
    });
}

#[test]
fn packets_above_a_length_vanish() {
    story("black-hole", |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        lab.internet().drop_longer(a.number(), b.number(), 1400)?;
        let target = b.addr4().to_string();
        // 28 bytes of headers
        for (payload, passes) in [("1372", true), ("1373", false)] {
            let output =
                a.run(&["ping", "-n", "-q", "-M", "do", "-s", payload, "-c", "1", "-W", "1", &target])?;
            assert_eq!(output.code == 0, passes, "{payload} bytes of payload");
        }
        Ok(())
    });
}

#[test]
fn a_reboot_ends_processes_and_keeps_the_disk() {
    story("reboot", |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        let mut process = a.start(&["ping", "-q", &b.addr4().to_string()])?;
        std::fs::write(a.state_dir().join("kept"), "yes")?;
        a.reboot()?;
        wait::until(DEADLINE, "the process is gone", || process.ended().is_some())?;
        assert!(a.state_dir().join("kept").exists());
        assert!(a.pings(&b.addr4().to_string(), 1)?);
        Ok(())
    });
}

#[test]
fn two_labs_at_once_do_not_disturb_each_other() {
    story("one", |one| {
        let [a, b] = one.hosts(["a", "b"])?;
        story("other", |other| {
            let [c, d] = other.hosts(["a", "b"])?;
            assert_ne!(one.id(), other.id());
            other.internet().cut(c.number(), d.number())?;
            assert!(!c.pings(&d.addr4().to_string(), 1)?);
            assert!(a.pings(&b.addr4().to_string(), 1)?);
            Ok(())
        });
        assert!(a.pings(&b.addr4().to_string(), 1)?, "the end of a lab leaves the other one alone");
        assert!(one.dir().exists());
        Ok(())
    });
}

#[test]
fn a_capture_shows_what_crosses_the_link() {
    story("capture", |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        let capture = Capture::start(&a)?;
        // The bytes of `canary`.
        assert_eq!(a.run(&["ping", "-c", "1", "-p", "63616e617279", &b.addr4().to_string()])?.code, 0);
        let captured = capture.finish()?;
        assert!(captured.contains(b"canarycanary"));
        assert!(captured.contains(&b.addr4().octets()));
        assert!(!captured.contains(b"something else"));
        Ok(())
    });
}
