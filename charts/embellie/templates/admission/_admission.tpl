{{/* SPDX-License-Identifier: Apache-2.0 */}}

{{/*
The switch is the policies' parameter. A missing key reads as off; a missing ConfigMap never gets here. Booleans are read
as people write them in YAML, by the operator and the watchdog too.
*/}}
{{- define "embellie.switchedOn" -}}
- name: switched-on
  expression: |-
    params.?data.enabled.orValue('').trim().lowerAscii() in ['true', 'yes', 'on', 'y', '1'] &&
    !(params.?data.locked.orValue('').trim().lowerAscii() in ['true', 'yes', 'on', 'y', '1']) &&
    params.?data.namespaces.orValue('').contains(',' + request.namespace + ',')
{{- end -}}

{{/* What a hold would break, or what is somebody else's to start. */}}
{{- define "embellie.ordinary" -}}
- name: without-owner
  expression: object.metadata.?ownerReferences.orValue([]).size() == 0
- name: not-queued-by-kueue
  expression: "!('kueue.x-k8s.io/queue-name' in object.metadata.labels)"
- name: not-a-hook
  expression: |-
    !object.metadata.?annotations.orValue({}).exists(key, key in ['helm.sh/hook', 'argocd.argoproj.io/hook'])
{{- end -}}

{{- define "embellie.holdBinding" -}}
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicyBinding
metadata:
  name: {{ include "embellie.name" .root }}-{{ .policy }}
  labels:
    {{- include "embellie.labels" .root | nindent 4 }}
spec:
  policyName: {{ include "embellie.name" .root }}-{{ .policy }}
  paramRef:
    name: {{ include "embellie.name" .root }}-switch
    namespace: {{ .root.Release.Namespace }}
    parameterNotFoundAction: Allow
{{- end -}}

{{/* The operator's ServiceAccount, as CEL. */}}
{{- define "embellie.operatorAccount" -}}
'system:serviceaccount:{{ .Release.Namespace }}:{{ include "embellie.name" . }}-operator'
{{- end -}}

{{/* Our own ServiceAccounts, as a list in CEL. */}}
{{- define "embellie.ourAccounts" -}}
[
  {{ include "embellie.operatorAccount" . }},
  'system:serviceaccount:{{ .Release.Namespace }}:{{ include "embellie.name" . }}-watchdog',
]
{{- end -}}

{{/*
What an update of ours changes of a workload beyond what a release or a pause needs: a list of sentences, as CEL. Conditions know
no variables, so the one list names what the rules compare: `spec`, `pod` (the part that schedules: a pod's own spec, or
that of a Job's template) and so on, and the same before the update. Through dyn(), because two kinds with different fields
meet here. A Job that is left without labels gets its template's from the API server, in the same write.
*/}}
{{- define "embellie.oversteps" -}}
{{- $pod := "dyn(object).spec.?template.spec.orValue(dyn(object).spec)" -}}
{{- $oldPod := "dyn(oldObject).spec.?template.spec.orValue(dyn(oldObject).spec)" -}}
[{
  'isPod': dyn(request.resource.resource == 'pods'),
  'labels': dyn(object.metadata.?labels.orValue({})),
  'oldLabels': dyn(oldObject.metadata.?labels.orValue({})),
  'annotations': dyn(object.metadata.?annotations.orValue({})),
  'oldAnnotations': dyn(oldObject.metadata.?annotations.orValue({})),
  'spec': dyn(object).spec,
  'oldSpec': dyn(oldObject).spec,
  'pod': {{ $pod }},
  'oldPod': {{ $oldPod }},
  'affinity': dyn({{ $pod }}.?affinity.orValue({})),
  'oldAffinity': dyn({{ $oldPod }}.?affinity.orValue({})),
  'nodeAffinity': dyn({{ $pod }}.?affinity.nodeAffinity.orValue({})),
  'oldNodeAffinity': dyn({{ $oldPod }}.?affinity.nodeAffinity.orValue({})),
  'hadMarker': dyn(oldObject.metadata.?labels[?'embellie.io/held'].orValue('') == 'true'),
  'isPause': dyn(
    request.userInfo.username == {{ include "embellie.operatorAccount" . }} && request.resource.resource == 'jobs' &&
    oldObject.metadata.?labels[?'embellie.io/held'].orValue('') != 'true' &&
    object.metadata.?labels[?'embellie.io/held'].orValue('') == 'true' &&
    'embellie.io/checkpoint' in oldObject.metadata.?annotations.orValue({}) &&
    'embellie.io/pause-by' in oldObject.metadata.?annotations.orValue({}) &&
    'embellie.io/paused-at' in object.metadata.?annotations.orValue({}) &&
    !dyn(oldObject).spec.?suspend.orValue(false) && dyn(object).spec.?suspend.orValue(false)),
}].map(it, [
  it.labels.all(key, key == 'embellie.io/held' || it.oldLabels[?key] == optional.of(it.labels[key]) || (
    it.oldLabels.all(old, old == 'embellie.io/held') &&
    it.spec.?template.metadata.labels[?key] == optional.of(it.labels[key]))) &&
  it.oldLabels.all(key, key == 'embellie.io/held' || key in it.labels) && (it.isPause ||
    !('embellie.io/held' in it.labels) || it.oldLabels[?'embellie.io/held'] == it.labels[?'embellie.io/held'])
    ? '' : 'Embellie may remove its marker, the label embellie.io/held, and may change and remove no other label.',

  it.annotations.all(key, (key.startsWith('embellie.io/') && key != 'embellie.io/overstep') ||
    it.oldAnnotations[?key] == optional.of(it.annotations[key])) &&
  it.oldAnnotations.all(key, key.startsWith('embellie.io/') || key in it.annotations)
    ? '' : 'Embellie may only change and remove annotations that start with embellie.io/.',

  object.metadata.?finalizers == oldObject.metadata.?finalizers &&
  object.metadata.?ownerReferences == oldObject.metadata.?ownerReferences
    ? '' : 'Embellie may not change finalizers or owner references.',

  it.pod.?schedulingGates.orValue([]).all(gate, gate in it.oldPod.?schedulingGates.orValue([])) &&
  it.oldPod.?schedulingGates.orValue([]).all(gate,
    gate in it.pod.?schedulingGates.orValue([]) || (it.isPod && gate.name == 'embellie.io/hold'))
    ? '' : 'Embellie may remove its own scheduling gate, embellie.io/hold, and no other.',

  it.affinity.all(key, key == 'nodeAffinity' || it.oldAffinity[?key] == optional.of(it.affinity[key])) &&
  it.oldAffinity.all(key, key == 'nodeAffinity' || key in it.affinity) &&
  it.nodeAffinity.all(key, key == 'requiredDuringSchedulingIgnoredDuringExecution' ||
    it.oldNodeAffinity[?key] == optional.of(it.nodeAffinity[key])) &&
  it.oldNodeAffinity.all(key, key in it.nodeAffinity)
    ? '' : 'Embellie may only change the required node affinity, and may not drop what is there.',

  [{
    'new': it.nodeAffinity.?requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms.orValue([]),
    'old': it.oldNodeAffinity.?requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms.orValue([]),
  }].all(terms, terms.old.size() == 0 || (
    terms.new.size() == terms.old.size() &&
    terms.new.all(term, terms.old.exists(old,
      old.?matchFields == term.?matchFields &&
      old.?matchExpressions.orValue([]).all(wanted, wanted in term.?matchExpressions.orValue([]))))))
    ? '' : 'Embellie may only narrow the required node affinity; every term must keep the user\'s own expressions.',

  dyn(it.oldPod.?nodeSelector.orValue({})).all(key,
    it.pod.?nodeSelector[?key] == optional.of(it.oldPod.nodeSelector[key]))
    ? '' : 'Embellie may add to the node selector, and may not change or drop what is there.',

  it.pod.all(key, key in ['affinity', 'nodeSelector', 'schedulingGates'] ||
    it.oldPod[?key] == optional.of(it.pod[key])) &&
  it.oldPod.all(key, key in ['affinity', 'nodeSelector', 'schedulingGates'] || key in it.pod)
    ? '' : 'Embellie may change gates, node selector and node affinity of a pod, and nothing else in its spec.',

  it.isPod || (
    it.spec.all(key, key in ['suspend', 'template'] || it.oldSpec[?key] == optional.of(it.spec[key])) &&
    it.oldSpec.all(key, key in ['suspend', 'template'] || key in it.spec) &&
    it.spec.template.?metadata == it.oldSpec.template.?metadata)
    ? '' : 'Embellie may start a Job and place its pods, and change nothing else in its spec.',

  it.isPod || it.isPause || it.spec.?suspend == it.oldSpec.?suspend || !it.spec.?suspend.orValue(false)
    ? '' : 'Embellie may suspend a running Job only in a pause that its owner allows and that was announced.',

  it.hadMarker || (
    it.spec.all(key, (key == 'suspend' && it.isPause) || it.oldSpec[?key] == optional.of(it.spec[key])) &&
    it.oldSpec.all(key, key in it.spec))
    ? '' : 'Embellie may change nothing in the spec of work that does not carry its marker, but pause it.',
].filter(says, says != ''))[0]
{{- end -}}
