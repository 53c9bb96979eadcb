//! Nothing of the inside is seen on the underlay.

use std::time::Duration;

use mesh_lab::{Capture, story};

const DEADLINE: Duration = Duration::from_secs(20);

#[test]
fn no_inner_address_name_or_payload_is_seen_on_the_underlay() {
    story("leak", |lab| {
        let [alfa, bravo] = lab.hosts(["canary-alfa", "canary-bravo"])?;
        let captures = [Capture::start(&alfa)?, Capture::start(&bravo)?];
        let mesh = lab.mesh("canary-mesh", &[&alfa, &bravo])?;
        mesh.everyone_sees_all()?;
        let (a, b) = (mesh.member("canary-alfa")?, mesh.member("canary-bravo")?);
        for target in [a.addr4.to_string(), a.addr6.to_string()] {
            b.reaches(DEADLINE, &target)?;
            // The bytes of `canary`, as payload.
            assert_eq!(bravo.run(&["ping", "-c", "3", "-i", "0.05", "-p", "63616e617279", &target])?.code, 0);
        }
        let unallocated = std::net::Ipv4Addr::from(u32::from(a.addr4) + 200).to_string();
        assert!(!bravo.pings(&unallocated, 1)?);
        bravo.ctl(&["ping", "canary-alfa", "-c", "1"])?.ok()?;
        bravo.ctl(&["leave"])?.ok()?;

        let (inner4, inner6) = ([a.addr4.octets(), b.addr4.octets()], [a.addr6.octets(), b.addr6.octets()]);
        for capture in captures {
            let captured = capture.finish()?;
            assert!(
                captured.contains(&alfa.addr4().octets()) || captured.contains(&alfa.addr6().octets()),
                "the capture saw the tunnels"
            );
            assert!(!captured.contains(b"canary"), "a name or the payload");
            for address in inner4 {
                // Four bytes of ciphertext may be equal by chance; a whole header is not.
                assert!(!captured.contains(&header4(address, inner4)), "an inner IPv4 header");
                assert!(!captured.contains(address.map(|byte| byte.to_string()).join(".").as_bytes()));
            }
            for address in inner6 {
                assert!(!captured.contains(&address), "an inner IPv6 address");
            }
        }
        Ok(())
    });
}

/// Source and destination as they stand next to each other in an inner header.
fn header4(source: [u8; 4], both: [[u8; 4]; 2]) -> Vec<u8> {
    let [a, b] = both;
    let destination = if source == a { b } else { a };
    [source, destination].concat()
}
