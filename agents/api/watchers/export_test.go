package watchers

// HasQuantities is hasQuantities.
var HasQuantities = hasQuantities
