use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use meshd_api::{ApiError, ErrorCode};
use meshd_trust::{Roster, Standing};
use meshd_wire::enrol::{EnrolReply, EnrolRequest, Refused};
use meshd_wire::limits::FRAME_BYTES_MAX;
use meshd_wire::token::TokenSecret;
use meshd_wire::{JoinToken, MeshId, PublicKey, Timestamp};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::*;
use crate::config::Suites;
use crate::frame::{read_frame, write_frame};
use crate::membership::NodeSecrets;
use crate::role::steward::InviteSpec;
use crate::role::steward::fixture::{Home, NOW, quarter_hour, secrets};
use crate::tls::{
    ALPN_ENROL, ALPN_REGISTRY, Accepted, Admission, RawKey, RegistryConn, ServerKey, ServerTls, connect,
};

#[tokio::test]
async fn a_host_joins_with_a_token() {
    let site = Site::open().await;
    let joined = join_at(&site.invite(), 1).await.expect("joins");
    let node = secrets(1).node();
    assert_eq!(joined.roster.standing(&node, NOW), Standing::InForce);
    assert_eq!(joined.org, site.home.lock().expect("home").org);
    assert_eq!(joined.stewards, [site.at.to_string()]);
    let view = joined.roster.node(&node).expect("node");
    assert_eq!((view.cert().name.as_str(), view.cert().ipv4().octets()), ("host-1", [10, 91, 0, 1]));
}

#[tokio::test]
async fn of_two_hundred_racing_joins_one_wins() {
    let site = Site::open().await;
    let token = site.invite();
    let mut racers = JoinSet::new();
    for number in 0..200 {
        let token = token.clone();
        racers.spawn(async move { join_at(&token, number).await });
    }
    let (mut won, mut used) = (0, 0);
    while let Some(outcome) = racers.join_next().await {
        match outcome.expect("task") {
            Ok(_) => won += 1,
            Err(JoinError::TokenUsed) => used += 1,
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!((won, used), (1, 199));
}

#[tokio::test]
async fn each_bad_token_has_its_own_error() {
    let site = Site::open().await;
    let token = site.invite();
    let mut guessed = token.clone();
    guessed.secret = TokenSecret([1; 16]);
    assert!(matches!(join_at(&guessed, 1).await, Err(JoinError::TokenUnknown)));
    let mut astray = token.clone();
    astray.mesh = MeshId([1; 32]);
    assert!(matches!(join_at(&astray, 1).await, Err(JoinError::OtherMesh)));
    let mut alone = token.clone();
    alone.stewards.clear();
    assert!(matches!(join_at(&alone, 1).await, Err(JoinError::NoSteward)));
    let mut newer = token.clone();
    newer.root_version_min = 2;
    assert!(matches!(join_at(&newer, 1).await, Err(JoinError::Unproven(_) | JoinError::NotDelegated { .. })));
    site.advance(15 * 60 + 1);
    let late = join(&token, &secrets(1), Suites::WG, "host-1", |_| Ok(()), || NOW.plus(15 * 60 + 1)).await;
    assert!(matches!(late, Err(JoinError::TokenExpired)), "{late:?}");
}

#[tokio::test]
async fn a_name_that_is_taken_is_named() {
    let site = Site::open().await;
    join_at(&site.invite(), 1).await.expect("joins");
    let taken =
        join(&site.invite(), &secrets(2), Suites::WG, "host-1", |_| Ok(()), || NOW).await.expect_err("taken");
    assert_eq!(taken.to_string(), "the name host-1 is taken by another node");
}

#[tokio::test]
async fn a_host_that_cannot_carry_the_mesh_keeps_its_token() {
    let site = Site::open().await;
    let token = site.invite();
    let unfit = |_: &Roster| Err(Box::new(ApiError::new(ErrorCode::DeviceFailed, "no room for the device")));
    let error = join(&token, &secrets(1), Suites::WG, "host-1", unfit, || NOW).await.expect_err("unfit");
    assert!(matches!(error, JoinError::Unfit(_)), "{error:?}");
    join_at(&token, 2).await.expect("the token is still good");
}

#[tokio::test]
async fn a_wrong_clock_is_told_before_anything_else() {
    let site = Site::open().await;
    let token = site.invite();
    for (off, words) in [(86_400, "24 h ahead"), (-86_400, "24 h behind"), (400 * 86_400, "400 days ahead")] {
        let now = Timestamp(NOW.0.saturating_add_signed(off));
        let error =
            join(&token, &secrets(1), Suites::WG, "host-1", |_| Ok(()), || now).await.expect_err("clock");
        assert!(matches!(error, JoinError::Clock { by_s } if by_s == off), "{error:?}");
        assert!(error.to_string().contains(words), "{error}");
    }
    join(&token, &secrets(1), Suites::WG, "host-1", |_| Ok(()), || NOW.plus(60))
        .await
        .expect("a minute does not matter");
}

#[tokio::test]
async fn nobody_there_is_told_apart_from_nobody_listening() {
    let site = Site::open().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
    let closed = listener.local_addr().expect("address");
    drop(listener);
    let mut token = site.invite();
    token.stewards = vec![closed];
    let error = join_at(&token, 1).await.expect_err("nobody listens");
    assert!(matches!(error, JoinError::Unreachable(crate::tls::ConnectError::Refused { .. })), "{error:?}");
    token.stewards = vec![closed, site.at];
    join_at(&token, 1).await.expect("the next hint is tried");
}

#[tokio::test]
async fn a_man_in_the_middle_never_sees_a_proof() {
    let site = Site::open().await;
    let token = site.invite();
    let proofs = Arc::new(AtomicUsize::new(0));
    let seen = proofs.clone();
    let home = site.home.clone();
    // It answers with the true chain, fetched from the true steward, but has another key.
    let imposter = serve(RawKey::from_seed(&[0x66; 32]).expect("key"), Admission::default(), move |call| {
        if matches!(call.request, EnrolRequest::Enrol { .. }) {
            seen.fetch_add(1, Ordering::SeqCst);
        }
        let mut home = home.lock().expect("home");
        home.steward.answer(&call.peer_key, &call.exporter, &call.request, NOW).reply
    })
    .await;
    let mut lured = token.clone();
    lured.stewards = vec![imposter.at];
    let error = join_at(&lured, 1).await.expect_err("imposter");
    assert!(matches!(error, JoinError::NotDelegated { .. }), "{error:?}");
    assert_eq!(proofs.load(Ordering::SeqCst), 0);
    join_at(&token, 1).await.expect("the token is still good");
}

#[tokio::test]
async fn a_steward_that_proves_nothing_gets_no_proof() {
    let site = Site::open().await;
    for records in [Vec::new(), vec![vec![0xff; 40].into()], vec![Vec::new().into()]] {
        let key = site.home.lock().expect("home").steward.tls_key().expect("key");
        let liar = serve(key, Admission::default(), move |call| match call.request {
            EnrolRequest::Chain { .. } => EnrolReply::Chain { now: NOW, records: records.clone() },
            _ => panic!("asked more than the chain"),
        })
        .await;
        let mut token = site.invite();
        token.stewards = vec![liar.at];
        let error = join_at(&token, 1).await.expect_err("unproven");
        assert!(matches!(error, JoinError::Unproven(_)), "{error:?}");
    }
}

#[tokio::test]
async fn answers_that_are_no_frames_are_errors() {
    let token = Site::open().await.invite();
    let oversized = u32::MAX.to_be_bytes().to_vec();
    let garbage = [&9u32.to_be_bytes()[..], &[0xff; 9]].concat();
    let cut = [&9u32.to_be_bytes()[..], &[0x82; 3]].concat();
    for bytes in [oversized, garbage, cut, Vec::new()] {
        let tls = ServerTls::new(&RawKey::from_seed(&[1; 32]).expect("key"), Admission::default());
        let tls = tls.expect("settings");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
        let at = listener.local_addr().expect("address");
        let babbler = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("accepts");
                let Ok(Accepted::Enrol(mut connection)) = tls.accept(stream).await else { continue };
                read_frame(&mut connection.stream, FRAME_BYTES_MAX).await.expect("a request");
                connection.stream.write_all(&bytes).await.expect("writes");
                connection.stream.shutdown().await.expect("ends");
            }
        });
        let mut lured = token.clone();
        lured.stewards = vec![at];
        let error = join_at(&lured, 1).await.expect_err("babble");
        assert!(matches!(error, JoinError::NoAnswer(_)), "{error:?}");
        babbler.abort();
    }
}

#[tokio::test]
async fn a_certificate_for_somebody_else_is_not_taken() {
    let site = Site::open().await;
    let home = site.home.clone();
    let key = home.lock().expect("home").steward.tls_key().expect("key");
    let foreign = match home.lock().expect("home").admit(&secrets(7), "seven").reply {
        EnrolReply::Admitted { cert, .. } => cert,
        other => panic!("{other:?}"),
    };
    let swapper = serve(key, Admission::default(), move |call| {
        let mut home = home.lock().expect("home");
        let reply = home.steward.answer(&call.peer_key, &call.exporter, &call.request, NOW).reply;
        match reply {
            EnrolReply::Admitted { cert: _, records, registries, stewards } => {
                EnrolReply::Admitted { cert: foreign.clone(), records, registries, stewards }
            }
            other => other,
        }
    })
    .await;
    let mut token = site.invite();
    token.stewards = vec![swapper.at];
    let error = join_at(&token, 1).await.expect_err("foreign certificate");
    assert!(matches!(error, JoinError::OtherNode | JoinError::BadCertificate(_)), "{error:?}");
}

#[tokio::test]
async fn a_member_renews_refreshes_and_leaves() {
    let site = Site::open().await;
    let mut roster = join_at(&site.invite(), 1).await.expect("joins").roster;
    let (own, tls_key) = (secrets(1), site.tls_key);
    let key = raw_key(&own);
    let is_steward = |key: &PublicKey| *key == tls_key;

    site.advance(4 * 86_400);
    let now = NOW.plus(4 * 86_400);
    let request = site.home.lock().expect("home").request(&own, "host-1", now);
    let renewed = renew(&[site.at], &key, is_steward, request.clone()).await.expect("renewed");
    roster.accept_all(&renewed.records, now);
    roster.accept(&renewed.cert, now).expect("verifies");

    let refused = renew(&[site.at], &raw_key(&secrets(2)), is_steward, request).await;
    assert!(matches!(refused, Err(StewardCallError::Refused(Refused::NotMember))), "{refused:?}");
    let unknown = renew(&[site.at], &key, |_| false, Vec::new()).await;
    assert!(matches!(unknown, Err(StewardCallError::NotDelegated { .. })), "{unknown:?}");

    let farewell = own.sign_leave(&roster.mesh(), now).to_bytes();
    leave(&[site.at], &key, is_steward, farewell).await.expect("left");
    let records = refresh(&[site.at], &key, is_steward, roster.mesh()).await.expect("chain");
    assert_eq!(roster.accept_all(&records, now), []);
    assert_eq!(roster.standing(&own.node(), now), Standing::Revoked);
}

#[tokio::test]
async fn a_member_gets_addresses_for_its_externals() {
    let site = Site::open().await;
    let mut roster = join_at(&site.invite(), 1).await.expect("joins").roster;
    let (own, tls_key) = (secrets(1), site.tls_key);
    let key = raw_key(&own);
    let is_steward = |key: &PublicKey| *key == tls_key;
    let said = own.sign_externals(&roster.mesh(), 1, vec!["phone".into()], NOW).to_bytes();

    let stranger = claim(&[site.at], &raw_key(&secrets(2)), is_steward, said.clone()).await;
    assert!(matches!(stranger, Err(StewardCallError::Refused(Refused::NotMember))), "{stranger:?}");
    let given = claim(&[site.at], &key, is_steward, said.clone()).await.expect("given");
    assert_eq!(given.externals[0].addr4, [10, 91, 0, 2]);
    roster.accept(&given.cert, NOW).expect("verifies");
    assert_eq!(roster.node(&own.node()).expect("node").cert().prefixes.len(), 2);
    assert_eq!(claim(&[site.at], &key, is_steward, said).await.expect("given again"), given);
}

#[tokio::test]
async fn a_member_finds_its_steward_behind_the_address_of_a_stranger() {
    let site = Site::open().await;
    let stranger = serve(RawKey::from_seed(&[0x66; 32]).expect("key"), Admission::default(), |_| {
        panic!("a stranger is asked nothing")
    })
    .await;
    let roster = join_at(&site.invite(), 1).await.expect("joins").roster;
    let is_steward = |key: &PublicKey| *key == site.tls_key;
    let at = [stranger.at, site.at];
    refresh(&at, &raw_key(&secrets(1)), is_steward, roster.mesh()).await.expect("the steward answers");
}

#[tokio::test]
async fn introduced_records_reach_the_event_loop() {
    let key = RawKey::from_seed(&[1; 32]).expect("key");
    let server = key.public();
    let host = serve(key, Admission::default(), |call| match call.request {
        EnrolRequest::Introduce { records } if records.len() == 2 => EnrolReply::Done,
        _ => EnrolReply::Refused { why: Refused::Malformed },
    })
    .await;
    let records = vec![vec![1], vec![2]];
    introduce(&[host.at], &raw_key(&secrets(1)), |key| *key == server, records).await.expect("introduced");
}

#[tokio::test]
async fn malformed_frames_are_refused_and_the_port_lives_on() {
    let site = Site::open().await;
    let key = raw_key(&secrets(1));
    let whole = EnrolRequest::Chain { mesh: MeshId([1; 32]) }.to_bytes();
    let mut frames: Vec<Vec<u8>> = (0..whole.len()).map(|len| whole[..len].to_vec()).collect();
    frames.extend([vec![0xff; 1000], vec![0x9f; 8], vec![0x81; 100], [whole.as_slice(), &[0]].concat()]);
    for frame in frames {
        let mut stream = connect(site.at, &key, ServerKey::Unverified, ALPN_ENROL).await.expect("tls").stream;
        write_frame(&mut stream, &frame).await.expect("writes");
        let reply = read_frame(&mut stream, FRAME_BYTES_MAX).await.expect("reads").expect("a frame");
        let refused = EnrolReply::Refused { why: Refused::Malformed };
        assert_eq!(EnrolReply::from_bytes(&reply), Ok(refused), "{frame:?}");
        assert_eq!(read_frame(&mut stream, FRAME_BYTES_MAX).await.expect("ends"), None);
    }
    join_at(&site.invite(), 1).await.expect("joins");
}

#[tokio::test]
async fn a_frame_beyond_the_limit_ends_the_connection() {
    let site = Site::open().await;
    let key = raw_key(&secrets(1));
    for len in [200_000, u32::MAX] {
        let mut stream = connect(site.at, &key, ServerKey::Unverified, ALPN_ENROL).await.expect("tls").stream;
        stream.write_all(&len.to_be_bytes()).await.expect("writes");
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        assert_eq!(rest, b"");
    }
    assert_eq!(site.malformed(), 2);
}

#[tokio::test]
async fn silent_clients_do_not_keep_others_out() {
    let site = Site::open().await;
    let mut silent = Vec::new();
    for _ in 0..300 {
        let socket = TcpSocket::new_v4().expect("socket");
        socket.bind(SocketAddr::from(([127, 0, 0, 2], 0))).expect("binds");
        silent.push(socket.connect(site.at).await.expect("connects"));
    }
    join_at(&site.invite(), 1).await.expect("joins");
    drop(silent);
}

#[tokio::test]
async fn a_server_that_only_listens_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
    let at = listener.local_addr().expect("address");
    let outcome = EnrolClient::connect(&[at], &raw_key(&secrets(1)), ServerKey::Unverified).await;
    let error = outcome.expect("an address").expect_err("silence");
    assert!(matches!(error, crate::tls::ConnectError::TimedOut { .. }), "{error:?}");
}

#[tokio::test]
async fn a_request_that_nobody_answers_is_refused_as_unavailable() {
    let key = RawKey::from_seed(&[1; 32]).expect("key");
    let tls = ServerTls::new(&key, Admission::default()).expect("settings");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
    let at = listener.local_addr().expect("address");
    let (enrol_tx, calls) = mpsc::channel(1);
    let (registry_tx, _connections) = mpsc::channel(1);
    drop(calls);
    let server = tokio::spawn(serve_control(listener, tls, enrol_tx, registry_tx, Arc::default()));
    let asked = refresh(&[at], &raw_key(&secrets(1)), |_| true, MeshId([0; 32])).await;
    assert!(matches!(asked, Err(StewardCallError::Refused(Refused::Unavailable))), "{asked:?}");
    server.abort();
}

#[tokio::test]
async fn members_reach_the_registry_over_the_same_port() {
    let member = raw_key(&secrets(1));
    let admission = Admission::new(BTreeSet::from([member.public()]));
    let key = RawKey::from_seed(&[1; 32]).expect("key");
    let mut host = serve(key, admission, |_| EnrolReply::Refused { why: Refused::Unavailable }).await;
    let stranger = raw_key(&secrets(2));
    if let Ok(mut connection) = connect(host.at, &stranger, ServerKey::Unverified, ALPN_REGISTRY).await {
        assert!(connection.stream.read_u8().await.is_err());
    }
    let _connection = connect(host.at, &member, ServerKey::Unverified, ALPN_REGISTRY).await.expect("tls");
    let accepted = host.connections.recv().await.expect("a connection");
    assert_eq!(accepted.client(), member.public());
    assert!(host.connections.try_recv().is_err(), "the stranger's connection went no further");
}

/// A control port with its event loop.
struct Host {
    at: SocketAddr,
    counters: Arc<ControlCounters>,
    connections: mpsc::Receiver<RegistryConn>,
    _tasks: JoinSet<()>,
}

async fn serve(
    key: RawKey,
    admission: Admission,
    mut answer: impl FnMut(EnrolCallView) -> EnrolReply + Send + 'static,
) -> Host {
    let tls = ServerTls::new(&key, admission).expect("settings");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
    let at = listener.local_addr().expect("address");
    let (enrol_tx, mut calls) = mpsc::channel(16);
    let (registry_tx, connections) = mpsc::channel(16);
    let counters = Arc::<ControlCounters>::default();
    let mut tasks = JoinSet::new();
    tasks.spawn(serve_control(listener, tls, enrol_tx, registry_tx, counters.clone()));
    tasks.spawn(async move {
        while let Some(call) = calls.recv().await {
            let EnrolCall { peer_key, peer_addr: _, exporter, request, reply } = call;
            let _ = reply.send(answer(EnrolCallView { peer_key, exporter: *exporter, request }));
        }
    });
    Host { at, counters, connections, _tasks: tasks }
}

/// A call without its reply channel.
struct EnrolCallView {
    peer_key: PublicKey,
    exporter: [u8; 32],
    request: EnrolRequest,
}

/// A steward behind its control port.
struct Site {
    at: SocketAddr,
    tls_key: PublicKey,
    home: Arc<Mutex<Home>>,
    passed_s: Arc<AtomicUsize>,
    host: Host,
}

impl Site {
    async fn open() -> Self {
        let home = Arc::new(Mutex::new(Home::found(1, 16)));
        let key = home.lock().expect("home").steward.tls_key().expect("key");
        let tls_key = key.public();
        let (answering, passed_s) = (home.clone(), Arc::new(AtomicUsize::new(0)));
        let passed = passed_s.clone();
        let host = serve(key, Admission::default(), move |call| {
            let now = NOW.plus(passed.load(Ordering::SeqCst) as u64);
            let mut home = answering.lock().expect("home");
            home.steward.answer(&call.peer_key, &call.exporter, &call.request, now).reply
        })
        .await;
        home.lock().expect("home").steward.advertise(Vec::new(), vec![host.at.to_string()]);
        Self { at: host.at, tls_key, home, passed_s, host }
    }

    fn invite(&self) -> JoinToken {
        self.home.lock().expect("home").invite_at(&InviteSpec { ..quarter_hour() }, &[self.at])
    }

    /// Moves the steward's clock.
    fn advance(&self, seconds: usize) {
        self.passed_s.store(seconds, Ordering::SeqCst);
    }

    fn malformed(&self) -> u64 {
        self.host.counters.read().iter().find(|(reason, _)| *reason == "malformed").expect("counter").1
    }
}

async fn join_at(token: &JoinToken, number: u16) -> Result<Joined, JoinError> {
    join(token, &secrets(number), Suites::WG, &format!("host-{number}"), |_| Ok(()), || NOW).await
}

fn raw_key(secrets: &NodeSecrets) -> RawKey {
    RawKey::from_seed(&secrets.transport().seed()).expect("key")
}
