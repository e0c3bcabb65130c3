"""Every GraphQL document that this project sends, and nothing else is ever sent.

Tests hold each against the sandbox API's schema, and against Railway's own where it is at hand (facts: railway.md 2.2, 2.4; the
documentation's samples are wrong in places). The environment is always named: where it is left out Railway changes every
environment of the project. No document asks for decrypted configuration.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Document", "all_documents"]


@dataclass(frozen=True)
class Document:
    """One operation.

    Attributes:
        text: as it is sent.
    """

    text: str

    @property
    def name(self) -> str:
        """Name of the operation, for messages and as `operationName`."""
        found = re.search(r"(?:query|mutation)\s+(\w+)", self.text)
        return found.group(1) if found else "Anonymous"

    @property
    def changes(self) -> bool:
        """Whether it changes anything: such a one is never sent a second time when it may have arrived."""
        return self.text.lstrip().startswith("mutation")


# ---------------------------------------------------------------------------------------------- who we are, what there is

PROJECT_TOKEN = Document("query ProjectToken { projectToken { id projectId environmentId } }")
API_TOKEN = Document("query ApiToken { apiToken { workspaces { id name } } }")

PROJECT = Document("""query Project($projectId: String!) {
  project(id: $projectId) {
    id name workspaceId
    environments(first: 100) { edges { node { id name } } pageInfo { hasNextPage } }
    services(first: 200) { edges { node { id name } } pageInfo { hasNextPage } }
    volumes(first: 200) { edges { node { id name } } pageInfo { hasNextPage } }
    buckets(first: 100) { edges { node { id name } } pageInfo { hasNextPage } }
  }
}""")

WORKSPACE_PROJECTS = Document("""query WorkspaceProjects($workspaceId: String!) {
  workspace(workspaceId: $workspaceId) {
    projects(first: 200) {
      edges { node { id name environments(first: 100) { edges { node { id name } } pageInfo { hasNextPage } } } }
      pageInfo { hasNextPage }
    }
  }
}""")

PROJECT_CREATE = Document("""mutation ProjectCreate($input: ProjectCreateInput!) {
  projectCreate(input: $input) { id name environments(first: 10) { edges { node { id name } } pageInfo { hasNextPage } } }
}""")

_DEPLOYMENT = """
  id status createdAt statusUpdatedAt canRedeploy canRollback deploymentStopped serviceId environmentId url meta
  instances { id status }
"""

_VOLUME_INSTANCE = "id volumeId serviceId mountPath region sizeMB currentSizeMB state isPendingDeletion"

INVENTORY = Document(f"""query Inventory($environmentId: String!, $projectId: String!) {{
  environment(id: $environmentId, projectId: $projectId) {{
    id name configEtag unmergedChangesCount
    serviceInstances(first: 200) {{
      edges {{ node {{
        id serviceId serviceName numReplicas region startCommand preDeployCommand healthcheckPath healthcheckTimeout
        restartPolicyType restartPolicyMaxRetries drainingSeconds overlapSeconds cronSchedule sleepApplication
        source {{ image repo }}
        domains {{ serviceDomains {{ id domain targetPort }} customDomains {{ id domain targetPort }} }}
        latestDeployment {{ {_DEPLOYMENT} }}
        activeDeployments {{ {_DEPLOYMENT} }}
      }} }}
      pageInfo {{ hasNextPage }}
    }}
    volumeInstances(first: 200) {{
      edges {{ node {{ {_VOLUME_INSTANCE} volume {{ id name }} }} }}
      pageInfo {{ hasNextPage }}
    }}
  }}
}}""")

# --------------------------------------------------------------------------------------------------------- deployments

DEPLOYMENT = Document(f"query Deployment($id: String!) {{ deployment(id: $id) {{ {_DEPLOYMENT} }} }}")

DEPLOYMENTS = Document(f"""query Deployments($input: DeploymentListInput!, $first: Int!) {{
  deployments(input: $input, first: $first) {{ edges {{ node {{ {_DEPLOYMENT} }} }} }}
}}""")

DEPLOYMENT_EVENTS = Document("""query DeploymentEvents($id: String!, $first: Int!) {
  deploymentEvents(id: $id, first: $first) {
    edges { node { id step createdAt completedAt payload { attempt maxAttempts durationMs error reason detail skipped } } }
  }
}""")

DEPLOYMENT_LOGS = Document("""query DeploymentLogs($deploymentId: String!, $limit: Int!) {
  deploymentLogs(deploymentId: $deploymentId, limit: $limit) { timestamp severity message }
}""")

DEPLOY = Document("""mutation Deploy($serviceId: String!, $environmentId: String!) {
  serviceInstanceDeployV2(serviceId: $serviceId, environmentId: $environmentId)
}""")

REDEPLOY = Document("""mutation Redeploy($id: String!, $usePreviousImageTag: Boolean) {
  deploymentRedeploy(id: $id, usePreviousImageTag: $usePreviousImageTag) { id status }
}""")

RESTART = Document("mutation Restart($id: String!) { deploymentRestart(id: $id) }")
ROLLBACK = Document("mutation Rollback($id: String!) { deploymentRollback(id: $id) }")
STOP = Document("mutation Stop($id: String!) { deploymentStop(id: $id) }")
REMOVE = Document("mutation Remove($id: String!) { deploymentRemove(id: $id) }")
CANCEL = Document("mutation Cancel($id: String!) { deploymentCancel(id: $id) }")

# ------------------------------------------------------------------------------------------------------------ services

SERVICE_CREATE = Document("""mutation ServiceCreate($input: ServiceCreateInput!) {
  serviceCreate(input: $input) { id name }
}""")

SERVICE_DELETE = Document("""mutation ServiceDelete($id: String!, $environmentId: String!) {
  serviceDelete(id: $id, environmentId: $environmentId)
}""")

SERVICE_UPDATE = Document("""mutation ServiceUpdate(
  $serviceId: String!, $environmentId: String!, $input: ServiceInstanceUpdateInput!
) {
  serviceInstanceUpdate(serviceId: $serviceId, environmentId: $environmentId, input: $input)
}""")

LIMITS = Document("""query Limits($environmentId: String!, $serviceId: String!) {
  serviceInstanceLimits(environmentId: $environmentId, serviceId: $serviceId)
  serviceInstanceLimitOverride(environmentId: $environmentId, serviceId: $serviceId)
}""")

LIMITS_UPDATE = Document("""mutation LimitsUpdate($input: ServiceInstanceLimitsUpdateInput!) {
  serviceInstanceLimitsUpdate(input: $input)
}""")

DOMAINS = Document("""query Domains($projectId: String!, $environmentId: String!, $serviceId: String!) {
  domains(projectId: $projectId, environmentId: $environmentId, serviceId: $serviceId) {
    serviceDomains { id domain targetPort } customDomains { id domain targetPort }
  }
}""")

DOMAIN_CREATE = Document("""mutation DomainCreate($input: ServiceDomainCreateInput!) {
  serviceDomainCreate(input: $input) { id domain targetPort }
}""")

CUSTOM_DOMAINS = Document("""query CustomDomains($projectId: String!, $environmentId: String!, $serviceId: String!) {
  domains(projectId: $projectId, environmentId: $environmentId, serviceId: $serviceId) {
    customDomains {
      id domain
      status { certificateStatus verified dnsRecords { fqdn hostlabel zone currentValue requiredValue status } }
    }
  }
}""")

CERTIFICATE_ISSUE = Document("mutation CertificateIssue($id: String!) { customDomainIssueCertificate(id: $id) }")

TCP_PROXIES = Document("""query TcpProxies($environmentId: String!, $serviceId: String!) {
  tcpProxies(environmentId: $environmentId, serviceId: $serviceId) { id domain proxyPort applicationPort }
}""")

# ----------------------------------------------------------------------------------------------------------- variables

VARIABLES = Document("""query Variables(
  $projectId: String!, $environmentId: String!, $serviceId: String, $unrendered: Boolean!
) {
  variables(projectId: $projectId, environmentId: $environmentId, serviceId: $serviceId, unrendered: $unrendered)
}""")

VARIABLES_RENDERED = Document("""query VariablesRendered(
  $projectId: String!, $environmentId: String!, $serviceId: String!
) {
  variablesForServiceDeployment(projectId: $projectId, environmentId: $environmentId, serviceId: $serviceId)
}""")

VARIABLE_META = Document("""query VariableMeta($environmentId: String!, $projectId: String!, $after: String) {
  environment(id: $environmentId, projectId: $projectId) {
    id
    variables(first: 500, after: $after) {
      edges { node { name serviceId isSealed references } }
      pageInfo { hasNextPage endCursor }
    }
  }
}""")

VARIABLES_UPSERT = Document("""mutation VariablesUpsert($input: VariableCollectionUpsertInput!) {
  variableCollectionUpsert(input: $input)
}""")

VARIABLE_DELETE = Document("""mutation VariableDelete($input: VariableDeleteInput!) { variableDelete(input: $input) }""")

# ------------------------------------------------------------------------------------- configuration as a whole, buckets

UNMERGED = Document("""query Unmerged($environmentId: String!, $projectId: String!) {
  environment(id: $environmentId, projectId: $projectId) { id configEtag unmergedChangesCount }
}""")

STAGED = Document("""query Staged($environmentId: String!) {
  environmentStagedChanges(environmentId: $environmentId) { id status lastAppliedError patch(decryptVariables: false) }
}""")

PATCH_COMMIT = Document("""mutation PatchCommit($environmentId: String!, $patch: EnvironmentConfig!, $commitMessage: String) {
  environmentPatchCommit(environmentId: $environmentId, patch: $patch, commitMessage: $commitMessage)
}""")

STAGED_COMMIT = Document("""mutation StagedCommit($environmentId: String!, $commitMessage: String, $skipDeploys: Boolean!) {
  environmentPatchCommitStaged(environmentId: $environmentId, commitMessage: $commitMessage, skipDeploys: $skipDeploys)
}""")

BUCKET_CREATE = Document("mutation BucketCreate($input: BucketCreateInput!) { bucketCreate(input: $input) { id name } }")

BUCKET_CREDENTIALS = Document("""query BucketCredentials($projectId: String!, $environmentId: String!, $bucketId: String!) {
  bucketS3Credentials(projectId: $projectId, environmentId: $environmentId, bucketId: $bucketId) {
    bucketName endpoint region urlStyle accessKeyId secretAccessKey createdAt
  }
}""")

# ------------------------------------------------------------------------------------------------ volumes, their backups

VOLUME_CREATE = Document("mutation VolumeCreate($input: VolumeCreateInput!) { volumeCreate(input: $input) { id name } }")
VOLUME_DELETE = Document("mutation VolumeDelete($volumeId: String!) { volumeDelete(volumeId: $volumeId) }")

VOLUME_INSTANCE = Document(f"query VolumeInstance($id: String!) {{ volumeInstance(id: $id) {{ {_VOLUME_INSTANCE} }} }}")

BACKUPS = Document("""query VolumeBackups($volumeInstanceId: String!) {
  volumeInstanceBackupList(volumeInstanceId: $volumeInstanceId) {
    id externalId name createdAt expiresAt scheduleId usedMB referencedMB volumeInstanceSizeMB
  }
}""")

BACKUP_CREATE = Document("""mutation VolumeBackupCreate($volumeInstanceId: String!, $name: String) {
  volumeInstanceBackupCreate(volumeInstanceId: $volumeInstanceId, name: $name) { workflowId }
}""")

BACKUP_RESTORE = Document("""mutation VolumeBackupRestore($volumeInstanceId: String!, $volumeInstanceBackupId: String!) {
  volumeInstanceBackupRestore(volumeInstanceId: $volumeInstanceId, volumeInstanceBackupId: $volumeInstanceBackupId) {
    workflowId
  }
}""")

BACKUP_LOCK = Document("""mutation VolumeBackupLock($volumeInstanceId: String!, $volumeInstanceBackupId: String!) {
  volumeInstanceBackupLock(volumeInstanceId: $volumeInstanceId, volumeInstanceBackupId: $volumeInstanceBackupId)
}""")

BACKUP_DELETE = Document("""mutation VolumeBackupDelete($volumeInstanceId: String!, $volumeInstanceBackupId: String!) {
  volumeInstanceBackupDelete(volumeInstanceId: $volumeInstanceId, volumeInstanceBackupId: $volumeInstanceBackupId) {
    workflowId
  }
}""")

WORKFLOW = Document("query Workflow($workflowId: String!) { workflowStatus(workflowId: $workflowId) { status error } }")

# ------------------------------------------------------------------------------------------- measurements, rules, templates

METRICS = Document("""query Metrics(
  $projectId: String!, $environmentId: String!, $serviceId: String, $startDate: DateTime!, $sampleRateSeconds: Int,
  $measurements: [MetricMeasurement!]!, $groupBy: [MetricTag!]
) {
  metrics(
    projectId: $projectId, environmentId: $environmentId, serviceId: $serviceId, startDate: $startDate,
    sampleRateSeconds: $sampleRateSeconds, measurements: $measurements, groupBy: $groupBy
  ) { measurement tags { serviceId volumeId } values { ts value } }
}""")

NOTIFICATION_RULES = Document("""query NotificationRules($workspaceId: String!, $projectId: String!) {
  notificationRules(workspaceId: $workspaceId, projectId: $projectId) { id eventTypes }
}""")

TEMPLATE_GENERATE = Document("""mutation TemplateGenerate($input: TemplateGenerateInput!) {
  templateGenerate(input: $input) { id code name status serializedConfig }
}""")


def all_documents() -> tuple[Document, ...]:
    """Return every document of this module."""
    return tuple(value for value in globals().values() if isinstance(value, Document))
