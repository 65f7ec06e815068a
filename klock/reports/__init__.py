"""Findings in the formats of those who read them in a pull request or a pipeline.

places    which file and line a finding is shown at, from the root of the repository
sarif     SARIF 2.1.0, for code scanning
github    annotations, as a step of GitHub Actions prints them
junit     JUnit's XML, as GitLab and others read it
"""
