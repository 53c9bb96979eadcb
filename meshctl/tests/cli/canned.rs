//! What a daemon would answer.

/// A member of a mesh of two organisations.
pub const STATUS: &str = r#"{"schema":"meshd.status/1","version":"0.1.0","uptime_s":10925,"membership":"member",
"node":{"name":"a","id":"aqeaqeaqeaqeaqeaqeaqeaqeaqeaqeaqeaqeaqeaqeaqeaqeaqea","org":"uva","addr4":"10.91.0.1",
"addr6":"fd12:3456:789a:1::5","dns_name":"a.uva.mesh.internal","device":"meshd0","udp_port":51820,"control":"192.0.2.10:51820",
"roles":["steward","registry"],"cert_expires_at":1795840216,"identity":"mfrggzdfmztwq2lknnwg23tpobyxe43uov3ho6dzpiydcmrtgq2q"},
"mesh":{"name":"lab","id":"qfaqfaqfaqfaqfaqfaqfaqfaqfaqfaqfaqfaqfaqfaqfaqfaqfaq","lab":true,"prefix6":"fd12:3456:789a::/48",
"organisations":[{"name":"uva","id":"ueaqueaqueaqueaqueaqueaqueaqueaqueaqueaqueaqueaqueaq","prefix4":"10.91.0.0/16","freshness":"fresh","state_age_s":12},
{"name":"surf","id":"seaqseaqseaqseaqseaqseaqseaqseaqseaqseaqseaqseaqseaq","prefix4":"10.92.0.0/16","freshness":"stale","state_age_s":1205}]},
"registry":{"kind":"embedded","endpoints":["192.0.2.10:51820"],"connected":true,"since":1795235416},
"peers":{"total":3,"connected":2},
"warnings":[{"code":"root-key-present","message":"the root key is still on this host","hint":"move it to a safe place"}]}"#;

/// A daemon that belongs to no mesh.
pub const OUTSIDE: &str = r#"{"schema":"meshd.status/1","version":"0.1.0","uptime_s":5,"membership":"outside","node":null,"mesh":null,
"registry":{"kind":"none","endpoints":[],"connected":false,"since":null},"peers":{"total":0,"connected":0},"warnings":[]}"#;

/// Two other nodes, one of them with a name that would steer a terminal.
pub const PEERS: &str = r#"{"schema":"meshd.peers/1","peers":[
{"name":"b","id":"beaqbeaqbeaqbeaqbeaqbeaqbeaqbeaqbeaqbeaqbeaqbeaqbeaq","org":"uva","addr4":"10.91.0.2","addr6":"fd12:3456:789a:1::6",
"dns_name":"b.uva.mesh.internal","labels":{"role":"worker","zone":"ams"},"state":"connected","path":"udp 198.51.100.7:51820","rtt_ms":0.412,"last_handshake_s":75,
"rx_bytes":1536,"tx_bytes":5368709120,"key_epoch":1,"cert_expires_at":1795840216},
{"name":"c\u001b[2J","id":"ceaqceaqceaqceaqceaqceaqceaqceaqceaqceaqceaqceaqceaq","org":"surf","addr4":"10.92.0.3","addr6":"fd12:3456:789a:2::7",
"labels":{},"state":"stale","path":null,"rtt_ms":null,"last_handshake_s":null,"rx_bytes":0,"tx_bytes":0,"key_epoch":null,"cert_expires_at":1795840216}]}"#;

/// A round trip.
pub const PONG: &str = r#"{"schema":"meshd.ping/1","name":"b","id":"beaq","address":"10.91.0.2","path":"udp 198.51.100.7:51820","rtt_us":412}"#;

/// Another one.
pub const PONG_LATE: &str = r#"{"schema":"meshd.ping/1","name":"b","id":"beaq","address":"10.91.0.2","path":"udp 198.51.100.7:51820","rtt_us":1009}"#;

/// No round trip.
pub const SILENCE: &str = r#"{"schema":"meshd.error/1","code":"timed-out","error":"no answer from b"}"#;

/// A token.
pub const INVITE: &str =
    r#"{"schema":"meshd.invite/1","token":"MFRGGZDFMZTWQ2LK","id":"aebagbafaydqq","expires_at":1795236316}"#;

/// A new member.
pub const MEMBER: &str = r#"{"schema":"meshd.member/1",
"node":{"name":"b","id":"beaqbeaqbeaqbeaqbeaqbeaqbeaqbeaqbeaqbeaqbeaqbeaqbeaq","org":"uva","addr4":"10.91.0.2",
"addr6":"fd12:3456:789a:1::6","device":"meshd0","udp_port":51820,"control":"192.0.2.11:51820","roles":[],
"cert_expires_at":1795840216,"identity":"nbswy3dpnbswy3dpnbswy3dpnbswy3dpnbswy3dpnbswy3dpnbsq"},
"mesh":{"name":"lab","id":"qfaqfaqfaqfaqfaqfaqfaqfaqfaqfaqfaqfaqfaqfaqfaqfaqfaq","lab":false,"prefix6":"fd12:3456:789a::/48","organisations":[]}}"#;

/// A request to be carried to a steward.
pub const JOIN_REQUEST: &str =
    r#"{"schema":"meshd.join-request/1","request":"dGhlIHJlcXVlc3Q=","id":"beaqbeaq","name":"b"}"#;

/// A steward's answer to it.
pub const ADMIT: &str = r#"{"schema":"meshd.admit/1","response":"dGhlIGFuc3dlcg==","name":"b","id":"beaqbeaq","addr4":"10.91.0.2","addr6":"fd12:3456:789a:1::6","cert_expires_at":1795840216}"#;

/// A plain WireGuard peer that is served now.
pub const EXTERNAL_ADDED: &str = r#"{"schema":"meshd.external-added/1",
"external":{"name":"phone","addr4":"10.91.0.5","addr6":"fd12:3456:789a:1::a5b:5","public_key":"BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=",
"preshared":true,"certified":true,"path":null,"last_handshake_s":null,"rx_bytes":0,"tx_bytes":0,"added_at":1795235416},
"gateway":"a","gateway_key":"CAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAg=","endpoints":["192.0.2.10:51820","[2001:db8::1]:51820"],
"prefixes":["10.91.0.0/16","10.92.0.0/16","fd12:3456:789a::/48"],"mtu":8920}"#;

/// Plain WireGuard peers in every state.
pub const EXTERNALS: &str = r#"{"schema":"meshd.externals/1","externals":[
{"name":"phone","addr4":"10.91.0.5","addr6":"fd12:3456:789a:1::a5b:5","public_key":"BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=",
"preshared":true,"certified":true,"path":"udp 198.51.100.9:41641","last_handshake_s":75,"rx_bytes":1536,"tx_bytes":0,"added_at":1795235416},
{"name":"router","addr4":"10.91.0.6","addr6":"fd12:3456:789a:1::a5b:6","public_key":"CAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAg=",
"preshared":false,"certified":true,"path":null,"last_handshake_s":null,"rx_bytes":0,"tx_bytes":0,"added_at":1795235416},
{"name":"tablet","addr4":"10.91.0.7","addr6":"fd12:3456:789a:1::a5b:7","public_key":"CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk=",
"preshared":true,"certified":false,"path":null,"last_handshake_s":null,"rx_bytes":0,"tx_bytes":0,"added_at":1795235416}]}"#;

/// One that is served no longer.
pub const EXTERNAL_REMOVED: &str = r#"{"schema":"meshd.external-removed/1","name":"phone","addr4":"10.91.0.5","addr6":"fd12:3456:789a:1::a5b:5"}"#;

/// What was attached.
pub const ENDPOINT: &str = r#"{"schema":"meshd.endpoint/1","id":"5f1c6a2e","attachment":{"runtime":"meshctl","network":"lab",
"container":"/run/netns/web","ifname":"mesh0"},"state":"attached","addresses":["10.91.128.5","fd12:3456:789a:1::a5b:8005"],
"gateways":["169.254.1.1","fe80::1"],"routes":["10.91.0.0/16","fd12:3456:789a::/48"],"mtu":8920,"host_link":"msh5f1c6a2e",
"host_mac":"02:6d:73:00:00:01","container_link":"mesh0","container_mac":"02:6d:73:00:00:02","name":"web","dns_name":"web.uva.mesh.internal",
"labels":{"app":"web"},"since":1795235416}"#;

/// Endpoints of two runtimes.
pub const ENDPOINTS: &str = r#"{"schema":"meshd.endpoints/1","endpoints":[
{"id":"5f1c6a2e","attachment":{"runtime":"meshctl","network":"lab","container":"/run/netns/web","ifname":"mesh0"},
"state":"attached","addresses":["10.91.128.5","fd12:3456:789a:1::a5b:8005"],"gateways":["169.254.1.1","fe80::1"],
"routes":["10.91.0.0/16","fd12:3456:789a::/48"],"mtu":8920,"host_link":"msh5f1c6a2e","host_mac":"02:6d:73:00:00:01",
"container_link":"mesh0","container_mac":"02:6d:73:00:00:02","name":"web","dns_name":"web.uva.mesh.internal","labels":{"app":"web"},"since":1795235416},
{"id":"77aa01c3","attachment":{"runtime":"docker","network":"9f3d","container":"c0ffee","ifname":""},"state":"claiming",
"addresses":[],"gateways":[],"routes":[],"mtu":1420,"host_link":"msh77aa01c3","host_mac":"02:6d:73:00:00:03",
"container_link":"msc77aa01c3","container_mac":"02:6d:73:00:00:04","name":null,"labels":{},"since":1795235417}]}"#;

/// What ended by itself: an endpoint, a link that nobody knows, and addresses that nobody has.
pub const COLLECTED: &str = r#"{"schema":"meshd.endpoints-collected/1","collected":[
{"id":"5f1c6a2e","attachment":{"runtime":"meshctl","network":"lab","container":"/run/netns/web","ifname":"mesh0"},
"addresses":["10.91.128.5","fd12:3456:789a:1::a5b:8005"],"host_link":"msh5f1c6a2e","reason":"its network namespace is gone"},
{"id":"77aa01c3","attachment":null,"addresses":[],"host_link":"msh77aa01c3","reason":"no endpoint has this link"},
{"id":"88bb12d4a5e6f7a8","attachment":null,"addresses":["10.91.128.9"],"host_link":null,
"reason":"the mesh is told of it, and nobody knows it"}]}"#;

/// Networks of two runtimes.
pub const NETWORKS: &str = r#"{"schema":"meshd.networks/1","networks":[
{"runtime":"docker","network":"9f3d","pool4":"10.91.64.0/20","pool6":null,"allocation":"sequential","egress":"mesh","mtu":1300,"ranges":["10.91.64.0/24"],"reach":"network"},
{"runtime":"meshctl","network":"lab","pool4":"10.91.128.0/20","pool6":"fd12:3456:789a:1::/96","allocation":"blocks","egress":"runtime","mtu":null,"ranges":[]}],
"own_prefixes":["10.91.0.0/16","fd12:3456:789a:1::/64"],"mesh_prefixes":["10.91.0.0/16","10.92.0.0/16","fd12:3456:789a::/48"]}"#;

/// A network that is known now.
pub const NETWORK: &str = r#"{"schema":"meshd.network/1","network":{"runtime":"meshctl","network":"lab","pool4":"10.91.128.0/20",
"pool6":"fd12:3456:789a:1::/96","allocation":"sequential","egress":"mesh","mtu":1300,"ranges":["10.91.128.0/24"],
"reach":"network","policy":"optional"}}"#;

/// A farewell that nobody heard.
pub const LEAVE: &str = r#"{"schema":"meshd.leave/1","mesh":"lab","steward_told":false}"#;

/// Settings.
pub const CONFIG: &str = r#"{"schema":"meshd.config/1","file":"/etc/meshd/meshd.toml","config":{"state_dir":"/var/lib/meshd",
"tunnel":{"port":51820,"device":"meshd0","mtu":null},"registry":{"endpoints":["a","b"]}}}"#;

/// One event of every kind.
pub const EVENTS: &str = r#"{"schema":"meshd.event/1","at_ms":1795235416007,"kind":"member-added","name":"b","id":"beaq","org":"uva","addr4":"10.91.0.2","addr6":"fd12::6"}
{"schema":"meshd.event/1","at_ms":1795235416008,"kind":"peer-up","name":"b","id":"beaq","org":"uva","path":"udp 198.51.100.7:51820"}
{"schema":"meshd.event/1","at_ms":1795235416009,"kind":"path-changed","name":"b","id":"beaq","org":"uva","path":"udp 192.0.2.9:51820"}
{"schema":"meshd.event/1","at_ms":1795235416010,"kind":"peer-down","name":"b","id":"beaq","org":"uva","reason":"no answer"}
{"schema":"meshd.event/1","at_ms":1795235416011,"kind":"member-removed","name":"b","id":"beaq","org":"uva","reason":"revoked"}
{"schema":"meshd.event/1","at_ms":1795235416012,"kind":"record-refused","record":"NodeCert abcdefghij","reason":"bad-signature","signer":null}
{"schema":"meshd.event/1","at_ms":1795235416013,"kind":"registry-disconnected","endpoint":"192.0.2.10:51820","reason":"connection refused"}
{"schema":"meshd.event/1","at_ms":1795235416014,"kind":"registry-connected","endpoint":"192.0.2.10:51820"}
{"schema":"meshd.event/1","at_ms":1795235416015,"kind":"org-stale","org":"surf","state_age_s":1205}
{"schema":"meshd.event/1","at_ms":1795235416016,"kind":"cert-renewed","expires_at":1795840216}
{"schema":"meshd.event/1","at_ms":1795235416017,"kind":"address-changed","candidates":["192.0.2.10:51820","[2001:db8::1]:51820"]}
{"schema":"meshd.event/1","at_ms":1795235416018,"kind":"missed","count":3}
{"schema":"meshd.event/1","at_ms":1795235416019,"kind":"log-forked","org":"surf"}
{"schema":"meshd.event/1","at_ms":1795235416020,"kind":"moon-landing"}
"#;

/// What the root lets a steward do.
pub const DELEGATION: &str = r#"{"schema":"meshd.steward-delegation/1","mesh":"aqeaqeaqeaqeaqeaqeaqeaqeaqeaqeaqeaqeaqeaqeaqeaqeaqea",
"org":"aqeaqeaqeaqeaqeaqeaqeaqeaqeaqeaqeaqeaqeaqeaqeaqeaqea","root":"","root_version":1,"serial":3,
"not_before":1795235416,"not_after":1803011416,"keys":{"record_key":"d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
"log_key":"3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
"witness_key":"fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
"tls_key":"278117fc144c72340f67d0f2316e8386ceffbf2b2428c9c51fef7c597f1d426e"}}"#;

/// Public keys of a steward: four Ed25519 keys.
pub const STEWARD: [&str; 4] = [
    "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
    "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
    "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
    "278117fc144c72340f67d0f2316e8386ceffbf2b2428c9c51fef7c597f1d426e",
];
