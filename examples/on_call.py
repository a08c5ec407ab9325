"""On call: a listener that pages someone, `health()`, and a deployment taken out of service by hand."""

from __future__ import annotations

from loom_py import AgentBuilder, AzureEmulator, Deployment, PolicyEvent
from loom_py.errors import NoDeploymentError
from loom_py.resilience.events import BudgetRefused, CircuitChanged, DeploymentTakenOut, SharedStateLost

URGENT = (DeploymentTakenOut, BudgetRefused, SharedStateLost)
"""What does not mend itself."""


def page(event: PolicyEvent) -> None:
    """Here you would call your pager; a line for everything that somebody should see."""
    if isinstance(event, URGENT):
        print(f"PAGE  {event.name}: {event.fields()}")
    elif isinstance(event, CircuitChanged):
        print(f"note  {event.breaker}: {event.before} -> {event.after} ({event.reason})")


with AzureEmulator(api_keys=["old"]) as first, AzureEmulator() as second:
    deployments = [
        Deployment.azure(first.endpoint, "gpt-4o-deployment", "old", name="first"),
        Deployment.azure(second.endpoint, "gpt-4o-deployment", second.api_key, name="second"),
    ]
    builder = AgentBuilder().with_azure_openai_llm(deployments=deployments).with_listener(page)
    with builder.build() as agent:
        print("all is well:", agent.health().status)

        first.fail_next(401)  # somebody rotated the key
        print("answered:", agent.chat("Are you there?").message)
        print("now:", agent.health().status)
        for name, deployment in agent.health().deployments.items():
            print(f"  {name}: available {deployment.is_available}, in {deployment.retry_in:.0f} s")

        agent.circuit_breakers["second"].force_open()  # taken out of service by hand
        try:
            agent.chat("And now?")
        except NoDeploymentError as error:
            print(f"{error.code}: {sorted(error.reasons)}, retry after {error.retry_after:.0f} s")

        agent.circuit_breakers["first"].force_close()  # the key was put right
        agent.circuit_breakers["second"].force_close()
        print("answered:", agent.chat("And now?").message)
        print("again:", agent.health().status)
