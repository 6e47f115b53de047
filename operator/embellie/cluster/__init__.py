# SPDX-License-Identifier: Apache-2.0
"""The only code of the operator that speaks to Kubernetes: what is, as light records, and the few writes we make."""
