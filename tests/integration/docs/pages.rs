//! One test per page: its shell blocks run, in order.

use super::session::execute;

/// The pages with shell blocks: the name of the test, and the file.
macro_rules! pages {
    ($($name:ident: $path:literal,)*) => {
        $(
            #[tokio::test]
            async fn $name() {
                execute($path).await;
            }
        )*

        pub const PAGES: &[&str] = &[$($path),*];
    };
}

pages! {
    admin_api: "docs/admin-api.md",
    admin_operations: "docs/admin-operations.md",
    agent_identity: "docs/agent-identity.md",
    agent_tools: "docs/agent-tools.md",
    architecture: "docs/ARCHITECTURE.md",
    auth_profiles: "docs/auth-profiles.md",
    backends: "docs/backends.md",
    backup: "docs/backup.md",
    clients: "docs/clients.md",
    concepts: "docs/concepts.md",
    configuration: "docs/configuration.md",
    contract: "docs/contract.md",
    contributing: "CONTRIBUTING.md",
    deployment: "docs/deployment.md",
    events: "docs/events.md",
    glossary: "docs/glossary.md",
    keys: "docs/keys.md",
    operations: "docs/operations.md",
    operators_page: "docs/operators-page.md",
    performance: "docs/performance.md",
    portals: "docs/portals.md",
    production: "docs/production.md",
    quick_start: "docs/quick-start.md",
    readme: "README.md",
    reliability: "docs/reliability.md",
    runbook: "docs/runbook.md",
    scaling: "docs/scaling.md",
    security: "docs/security.md",
    self_hosting: "docs/self-hosting.md",
    traces: "docs/traces.md",
    upgrading: "docs/upgrading.md",
    write_your_own_agent: "docs/write-your-own-agent.md",
}
