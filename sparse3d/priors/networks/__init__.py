"""Networks of priors that no library has, written anew under the names of their published weights."""
