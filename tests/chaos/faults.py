"""What can go wrong, each kind once: KINDS(field) makes them all, by name. A fault begins, lasts, and ends, each on a
thread of its own, so each may wait."""
import faults_network
import faults_operations
import faults_processes
import faults_servers


def kinds(field):
    """{name: fault} of those that this field has room for."""
    all_kinds = [*faults_processes.kinds(field), *faults_servers.kinds(field), *faults_network.kinds(field),
                 *faults_operations.kinds(field)]
    return {fault.name: fault for fault in all_kinds}
