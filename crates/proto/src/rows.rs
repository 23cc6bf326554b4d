//! The sixty operations and our additions, as data. `fixtures/operations.txt` is the published
//! list; a test compares the two line by line.

use crate::endpoint::{Access, Action, Class, Listener, Method, Row};
use crate::limits::{
    ANON_JSON_BYTES_MAX, BITMAP_BYTES_MAX, JSON_BYTES_MAX, SUBMIT_BYTES_MAX, TRANSFER_BYTES_MAX,
};

macro_rules! rows {
    ($($name:ident: $id:literal $method:ident $path:literal [$($query:literal),*] $access:expr, $action:ident, $listener:ident, $bytes:expr;)*) => {
        $(
            #[doc = concat!("Operation ", $id, ": `", $path, "`.")]
            pub const $name: Row = Row {
                id: $id,
                method: Method::$method,
                path: $path,
                query: &[$($query),*],
                access: $access,
                action: Action::$action,
                listener: Listener::$listener,
                request_bytes_max: $bytes,
            };
        )*

        /// Every operation of the two published listeners, in the order of the published list.
        pub const ALL: &[Row] = &[$($name),*];
    };
}

rows! {
    R01: "01" Get "/replicationcomms/consumedSeedDrives/{agentId}" [] Access::AnyOf(&[Class::Cert]), ListPoints, Replication, 0;
    R02: "02" Post "/replicationcomms/directreplication/slave/{agentId}/{jobId}/{sessionId}" [] Access::AnyOf(&[Class::Cert]), Replicate, Replication, JSON_BYTES_MAX;
    R03: "03" Post "/replicationcomms/directreplication/slave/{agentId}/{jobId}/{sessionId}/bitmap" [] Access::AnyOf(&[Class::Cert]), Replicate, Replication, BITMAP_BYTES_MAX;
    R04: "04" Post "/replicationcomms/directreplication/slave/{agentId}/{jobId}/{sessionId}/o3edata" [] Access::AnyOf(&[Class::Cert]), Replicate, Replication, TRANSFER_BYTES_MAX;
    R05: "05" Post "/replicationcomms/slave/{agentId}/{jobId}/{sessionId}/records/keys" [] Access::AnyOf(&[Class::Cert]), Replicate, Replication, TRANSFER_BYTES_MAX;
    R06: "06" Post "/replicationcomms/slave/{agentId}/{jobId}/{sessionId}/records/rawdata" [] Access::AnyOf(&[Class::Cert]), Replicate, Replication, TRANSFER_BYTES_MAX;
    R07: "07" Delete "/replicationcomms/slave/{agentId}/{jobId}/{sessionId}" ["commit"] Access::AnyOf(&[Class::Cert]), Replicate, Replication, 0;
    R08: "08" Get "/replicationcomms/slave/{agentId}/{volumeDriverId}/{epochNumber}/transferredblocks" [] Access::AnyOf(&[Class::Cert]), Replicate, Replication, 0;
    R09: "09" Get "/replicationcomms/slave/agents" ["view"] Access::AnyOf(&[Class::Cert]), ListPoints, Replication, 0;
    R10: "10" Get "/replicationcomms/slave/agents" ["view"] Access::AnyOf(&[Class::Cert]), ListPoints, Replication, 0;
    R11: "11" Get "/replicationcomms/slave/agents" ["view"] Access::AnyOf(&[Class::Cert]), ListPoints, Replication, 0;
    R12: "12" Delete "/replicationcomms/slave/agents/{agentId}" [] Access::AnyOf(&[Class::Cert]), RequestDelete, Replication, 0;
    R13: "13" Get "/replicationcomms/slave/agents/{agentId}" [] Access::AnyOf(&[Class::Cert]), ListPoints, Replication, 0;
    R14: "14" Get "/replicationcomms/slave/agents/{agentId}/{jobId}/{sessionId}/fileinfo" [] Access::AnyOf(&[Class::Cert]), Replicate, Replication, 0;
    R15: "15" Get "/replicationcomms/slave/agents/{agentId}/{jobId}/{sessionId}/repoconnectiondescription" [] Access::AnyOf(&[Class::Cert]), Replicate, Replication, 0;
    R16: "16" Delete "/replicationcomms/slave/agents/{agentId}/metadataUpdate" [] Access::AnyOf(&[Class::Cert]), Replicate, Replication, 0;
    R17: "17" Post "/replicationcomms/slave/agents/{agentId}/metadataUpdate" [] Access::AnyOf(&[Class::Cert]), Replicate, Replication, JSON_BYTES_MAX;
    R18: "18" Get "/replicationcomms/slave/agents/{agentId}/metadataUpdate/status" [] Access::AnyOf(&[Class::Cert]), Replicate, Replication, 0;
    R19: "19" Post "/replicationcomms/slave/agents/{agentId}/metadataUpdateJob" [] Access::AnyOf(&[Class::Cert]), Replicate, Replication, JSON_BYTES_MAX;
    R20: "20" Get "/replicationcomms/slave/agents/{agentId}/orphanedReplicatedVolumeImages" ["after"] Access::AnyOf(&[Class::Cert]), ListPoints, Replication, 0;
    R21: "21" Get "/replicationcomms/slave/agents/{agentId}/replicatedVolumeImagesNew" ["after"] Access::AnyOf(&[Class::Cert]), ListPoints, Replication, 0;
    R22: "22" Get "/replicationcomms/slave/agents/{agentId}/replication/verifyStart" [] Access::AnyOf(&[Class::Cert]), Replicate, Replication, 0;
    R23: "23" Get "/replicationcomms/slave/agents/{agentId}/rps" ["after"] Access::AnyOf(&[Class::Cert]), ListPoints, Replication, 0;
    R24: "24" Get "/replicationcomms/slave/agents/{agentId}/rpsCount" [] Access::AnyOf(&[Class::Cert]), ListPoints, Replication, 0;
    R25: "25" Get "/replicationcomms/slave/agents/{agentId}/skipCount/{skipCount}/maxCount/{maxCount}/rps" [] Access::AnyOf(&[Class::Cert]), ListPoints, Replication, 0;
    R26: "26" Put "/replicationcomms/slave/agents/{agentId}/status" [] Access::AnyOf(&[Class::Cert]), Replicate, Replication, JSON_BYTES_MAX;
    R27: "27" Post "/replicationcomms/slave/agents/{agentId}/transferJob/{jobId}" [] Access::AnyOf(&[Class::Cert]), Replicate, Replication, JSON_BYTES_MAX;
    R28: "28" Post "/replicationcomms/slave/agents/demand" [] Access::AnyOf(&[Class::Cert]), AskForAgents, Replication, JSON_BYTES_MAX;
    R29: "29" Post "/replicationcomms/slave/agents/replicationJob/start" [] Access::AnyOf(&[Class::Cert]), Replicate, Replication, JSON_BYTES_MAX;
    R30: "30" Post "/replicationcomms/slave/agents/replicationJob/sync" [] Access::AnyOf(&[Class::Cert]), Replicate, Replication, JSON_BYTES_MAX;
    R31: "31" Post "/replicationcomms/slave/agents/request" [] Access::AnyOf(&[Class::Cert]), AskForAgents, Replication, JSON_BYTES_MAX;
    R32: "32" Get "/replicationcomms/slave/cores/agentRepositoryRelationships" [] Access::AnyOf(&[Class::Cert]), ListPoints, Replication, 0;
    R33: "33" Put "/replicationcomms/slave/cores/agentRepositoryRelationshipsByCoreInfo" [] Access::AnyOf(&[Class::Cert]), ListPoints, Replication, JSON_BYTES_MAX;
    R34: "34" Get "/replicationcomms/slave/cores/agentRepositoryRelationshipsByDemand" [] Access::AnyOf(&[Class::Admin]), Demand, Replication, 0;
    R35: "35" Put "/replicationcomms/slave/cores/agentRepositoryRelationshipsByDemandByCoreInfo" [] Access::AnyOf(&[Class::Admin]), Demand, Replication, JSON_BYTES_MAX;
    R36: "36" Get "/replicationcomms/slave/cores/masters" [] Access::AnyOf(&[Class::Admin]), Demand, Replication, 0;
    R37: "37" Get "/replicationcomms/slave/cores/noPairingSummaryInfo" [] Access::AnyOf(&[Class::Anon, Class::Admin, Class::Cert]), Greet, Replication, 0;
    R38: "38" Post "/replicationcomms/slave/demand/agents/verify" [] Access::AnyOf(&[Class::Admin, Class::Cert]), Demand, Replication, JSON_BYTES_MAX;
    R39: "39" Post "/replicationcomms/slave/directreplicationsessions/new" [] Access::AnyOf(&[Class::Cert]), Replicate, Replication, JSON_BYTES_MAX;
    R40: "40" Get "/replicationcomms/slave/exchange" [] Access::AnyOf(&[Class::Cert]), Replicate, Replication, 0;
    R41: "41" Post "/replicationcomms/slave/exchange/dllinfo/{fileName}" [] Access::AnyOf(&[Class::Cert]), Replicate, Replication, JSON_BYTES_MAX;
    R42: "42" Post "/replicationcomms/slave/newsession/" [] Access::AnyOf(&[Class::Cert]), Replicate, Replication, JSON_BYTES_MAX;
    R43: "43" Post "/replicationcomms/slave/pairing/demand" [] Access::AnyOf(&[Class::Admin]), Demand, Replication, SUBMIT_BYTES_MAX;
    R44: "44" Post "/replicationcomms/slave/pairing/request" [] Access::AnyOf(&[Class::Anon, Class::Cert]), SubmitRequest, Replication, SUBMIT_BYTES_MAX;
    R45: "45" Post "/replicationcomms/slave/pairing/sync" [] Access::AnyOf(&[Class::Enrolling, Class::Cert]), PairingState, Replication, JSON_BYTES_MAX;
    R46: "46" Delete "/replicationcomms/slave/pairing" ["deleteRecoveryPoints"] Access::AnyOf(&[Class::Enrolling, Class::Cert]), PollRequest, Replication, 0;
    R47: "47" Post "/replicationcomms/slave/poke/{agentId}/{jobId}/{sessionId}" ["wait"] Access::AnyOf(&[Class::Cert]), Replicate, Replication, JSON_BYTES_MAX;
    R48: "48" Get "/replicationcomms/slave/replicatedagents/rpsinfo" ["after"] Access::AnyOf(&[Class::Cert]), ListPoints, Replication, 0;
    R49: "49" Post "/replicationcomms/slave/replication/verifyStart/" ["useCredentials"] Access::ByQuery(Class::Anon, Class::Admin), Greet, Replication, ANON_JSON_BYTES_MAX;
    R50: "50" Get "/replicationcomms/slave/repositories" [] Access::AnyOf(&[Class::Cert]), ListPoints, Replication, 0;
    R51: "51" Post "/replicationcomms/slave/request/agents/verify" [] Access::AnyOf(&[Class::Anon, Class::Cert]), Greet, Replication, SUBMIT_BYTES_MAX;
    R52: "52" Get "/replicationcomms/slave/sessions/{sessionId}/transferredblocks" [] Access::AnyOf(&[Class::Cert]), Replicate, Replication, 0;
    R53: "53" Post "/replicationcomms/slave/sessions/{uploadSessionId}/" [] Access::AnyOf(&[Class::Cert]), Replicate, Replication, JSON_BYTES_MAX;
    R54: "54" Delete "/replicationcomms/slave/sessions/{uploadSessionId}/" [] Access::AnyOf(&[Class::Cert]), Replicate, Replication, 0;
    R55: "55" Post "/replicationcomms/slave/sessions/{uploadSessionId}/data/{dataSize}" [] Access::AnyOf(&[Class::Cert]), Replicate, Replication, TRANSFER_BYTES_MAX;
    R56: "56" Post "/replicationcomms/slave/sessions/new" [] Access::AnyOf(&[Class::Cert]), Replicate, Replication, JSON_BYTES_MAX;
    R57: "57" Delete "/replicationcomms/slave/start/{agentId}/{jobId}/{sessionId}" ["commit"] Access::AnyOf(&[Class::Cert]), Replicate, Replication, 0;
    R58: "58" Put "/replicationcomms/slave/storage" [] Access::AnyOf(&[Class::Cert]), Replicate, Replication, JSON_BYTES_MAX;
    R59: "59" Get "/replicationcomms/slave/validate/" ["useCredentials"] Access::ByQuery(Class::Anon, Class::Admin), Greet, Replication, 0;
    R60: "60" Post "/api/replication/source" [] Access::AnyOf(&[Class::Token]), DecideRequest, Operator, JSON_BYTES_MAX;
    P1: "P1" Get "/replicationcomms/slave/pairing/requests/{requestId}/resolution" [] Access::AnyOf(&[Class::Enrolling, Class::Cert]), PollRequest, Replication, 0;
    P2: "P2" Get "/replicationcomms/slave/pairing/requests/{requestId}/certificate" [] Access::AnyOf(&[Class::Enrolling, Class::Cert]), PollRequest, Replication, 0;
    P3: "P3" Get "/replicationcomms/slave/pairing/requests/{requestId}/target-certificate" [] Access::AnyOf(&[Class::Enrolling, Class::Cert]), PollRequest, Replication, 0;
    H1: "H1" Get "/replicationcomms/slave/agents/{agentId}/damaged" ["after"] Access::AnyOf(&[Class::Cert]), Heal, Replication, 0;
    H2: "H2" Post "/replicationcomms/slave/agents/{agentId}/rps/{recoveryPointId}/read" [] Access::AnyOf(&[Class::Cert]), ReadBack, Replication, JSON_BYTES_MAX;
    V1: "V1" Get "/replicationcomms/slave/agents/storageUsage" [] Access::AnyOf(&[Class::Cert]), ListPoints, Replication, 0;
    V2: "V2" Get "/replicationcomms/slave/agents/all" [] Access::AnyOf(&[Class::Cert]), ListPoints, Replication, 0;
    V3: "V3" Get "/replicationcomms/slave/agents/{agentId}/freespace" [] Access::AnyOf(&[Class::Cert]), ListPoints, Replication, 0;
    N1: "N1" Post "/api/login" [] Access::AnyOf(&[Class::Anon]), Login, Operator, ANON_JSON_BYTES_MAX;
    N2: "N2" Get "/api/replication/pending" [] Access::AnyOf(&[Class::Token]), ListRequests, Operator, 0;
    N3: "N3" Get "/api/systems" ["include_pending", "include_rejected"] Access::AnyOf(&[Class::Token]), ReadStatus, Operator, 0;
    N4: "N4" Get "/api/storage" [] Access::AnyOf(&[Class::Token]), ReadStatus, Operator, 0;
    N5: "N5" Put "/api/replication/source" ["sid"] Access::AnyOf(&[Class::Token]), SetPolicy, Operator, JSON_BYTES_MAX;
    N6: "N6" Get "/api/replication/config" ["sid"] Access::AnyOf(&[Class::Token]), ReadStatus, Operator, 0;
    N7: "N7" Put "/api/replication/config" [] Access::AnyOf(&[Class::Token]), Administer, Operator, JSON_BYTES_MAX;
    N8: "N8" Get "/api/replication/queue" [] Access::AnyOf(&[Class::Token]), ReadStatus, Operator, 0;
    N9: "N9" Put "/api/replication/queue" [] Access::AnyOf(&[Class::Token]), SetPolicy, Operator, JSON_BYTES_MAX;
    N10: "N10" Get "/healthz" [] Access::AnyOf(&[Class::Anon]), Liveness, Both, 0;
}

#[cfg(test)]
mod tests {
    use super::ALL;

    #[test]
    fn the_table_is_the_published_list() {
        let published = include_str!("../fixtures/operations.txt");
        assert_eq!(published.lines().count(), ALL.len());
        for (line, row) in published.lines().zip(ALL) {
            let words: Vec<_> = line.split(' ').collect();
            let [id, method, path, access] = words[..] else { panic!("{line}") };
            let (path, query) = path.split_once('?').unwrap_or((path, ""));
            assert_eq!((row.id, row.method.as_str()), (id, method), "{line}");
            assert_eq!(row.path.trim_start_matches('/'), path.trim_start_matches('/'), "{line}");
            assert_eq!(row.access.to_string(), access, "{line}");
            for pair in query.split('&').filter(|pair| !pair.is_empty()) {
                let name = pair.split('=').next().unwrap();
                assert!(row.query.contains(&name), "{line}");
            }
        }
    }
}
