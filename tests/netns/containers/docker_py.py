"""What a study does with docker-py: a network, containers in it, and all of it gone again."""

import json
import sys

import docker
from docker.types import IPAMConfig, IPAMPool

image, subnet, fixed = sys.argv[1:]
client = docker.from_env()
ipam = IPAMConfig(driver="meshd", pool_configs=[IPAMPool(subnet=subnet)])
network = client.networks.create("study", driver="meshd", ipam=ipam, options={"meshd.egress": "none"})
one = client.containers.run(image, name="one", network="study", detach=True)
two = client.containers.run(image, name="two", network_disabled=False, detach=True)
network.connect(two, ipv4_address=fixed, aliases=["partner"])
network.reload()
attached = {name["Name"]: name["IPv4Address"] for name in network.attrs["Containers"].values()}
pinged = one.exec_run(["ping", "-c", "1", "-W", "2", "partner"])
network.disconnect(two)
network.reload()
left = [name["Name"] for name in network.attrs["Containers"].values()]
for container in one, two:
    container.remove(force=True)
pruned = client.networks.prune()["NetworksDeleted"]
print(json.dumps({"attached": attached, "pinged": pinged.exit_code, "left": left, "pruned": pruned}))
